/** Most files of a model. */
export const MAX_MODEL_FILES = 1024;
/** Most bytes of a file that is read whole: configs, tokenizers, indexes. */
export const MAX_WHOLE_BYTES = 64 * 1024 * 1024;

/** Names of the files of a model, in the layout of Hugging Face, that a node or its frontend may need. Nothing else of a folder is read. */
const NEEDED =
  /^(config|generation_config|modules|self-test|tokenizer|tokenizer_config|model\.safetensors\.index)\.json$|^\d+_Pooling\/config\.json$|^chat_template\.jinja$|\.safetensors$/;

/** Folders of a sentence-transformers model that hold its pooling module, whose `config.json` is needed too. */
export const isPoolingFolder = (name: string): boolean => /^\d+_Pooling$/.test(name);

/** Whether a model may need a file of this name. */
export const isModelFile = (name: string): boolean => NEEDED.test(name);

/** A model of one GGUF file, or of several. */
export interface GgufNames {
  /** Of the file without `.gguf`; of a split model without the numbers of the parts. */
  readonly name: string;
  /** Those that are there, in the order of their parts. */
  readonly files: readonly string[];
  readonly missing: readonly string[];
}

const GGUF = '.gguf';
/** As llama.cpp's gguf-split names the parts of a model. */
const PART = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/;

/** The GGUF models among files of one folder, ordered by their names. */
export function ggufModels(names: Iterable<string>): GgufNames[] {
  const there = new Set([...names].filter((name) => name.endsWith(GGUF)));
  const models = new Map<string, GgufNames>();
  for (const file of there) {
    const [, stem = '', number = '', count = ''] = PART.exec(file) ?? [];
    // Other numbers are part of a name like any.
    const split = Number(number) >= 1 && Number(number) <= Number(count) && Number(count) <= MAX_MODEL_FILES;
    const part = (i: number) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}${GGUF}`;
    const all = split ? Array.from({ length: Number(count) }, (_, i) => part(i)) : [file];
    const files = all.filter((each) => there.has(each));
    const missing = all.filter((each) => !there.has(each));
    models.set(all[0]!, { name: split ? stem : file.slice(0, -GGUF.length), files, missing });
  }
  return [...models.values()].sort((a, b) => (a.files[0]! < b.files[0]! ? -1 : 1));
}
