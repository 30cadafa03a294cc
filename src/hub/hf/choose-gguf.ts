import { type GgufNames, ggufModels } from '../../protocol/model-files.ts';
import { wholeGguf } from '../model-folder.ts';

/** What is asked for by name and written to disk under it. */
const SAFE = /^\w[\w.+-]*\.gguf$/;
/** Image encoders of models that see; they are no models by themselves. */
const PROJECTOR = /mmproj/i;

/**
 * The GGUF files to fetch of a repository; null = its safetensors. choice: the name of a file, or the end of one, as in `Q8_0`; without it
 * safetensors come first, and then the only GGUF model. Throws `Error` that lists what there is.
 */
export function chosenGguf(names: readonly string[], choice: string | null): readonly string[] | null {
  const models = ggufModels(names.filter((name) => SAFE.test(name) && !PROJECTOR.test(name)));
  const all = models.map(({ name }) => name).join(', ');
  if (choice === null) {
    if (models.length === 0 || names.some((name) => name.endsWith('.safetensors'))) return null;
    if (models.length === 1) return wholeGguf(models[0]);
    throw new Error(
      `it has several GGUF files: ${all}. Choose one by the end of its name, as in --model org/name:${endOf(models[0]!)}.`,
    );
  }
  if (models.length === 0) throw new Error(`it has no GGUF files to choose ${choice} from. Leave :${choice} out.`);
  const exact = models.filter(({ name, files }) => name === choice || files.includes(choice));
  const wanted = choice.toLowerCase();
  const ending = models.filter(
    ({ name }) => /[-.]/.test(name.at(-wanted.length - 1) ?? '') && name.toLowerCase().endsWith(wanted),
  );
  const [found, ...others] = exact.length > 0 ? exact : ending;
  if (found !== undefined && others.length === 0) return wholeGguf(found);
  const what = found === undefined ? 'no GGUF file' : 'several GGUF files';
  throw new Error(`it has ${what} whose name ends in ${choice}. There are: ${all}.`);
}

const endOf = ({ name }: GgufNames): string => /[^-.]+$/.exec(name)?.[0] ?? name;
