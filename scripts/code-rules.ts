import path from 'node:path';

export interface SourceFile {
  /** From the project's folder, with `/`. */
  readonly path: string;
  readonly text: string;
}

interface Layer {
  /** Folders of src/ that this one may import, beside itself. */
  readonly layers: readonly string[];
  /** Packages it may import; null = any. `node:` modules count as packages. */
  readonly packages: readonly string[] | null;
}

const BASE = ['protocol', 'config'];
const MIDDLE = ['frontend', 'engine', ...BASE];
/** Neither sockets nor files: what runs in a page as well as in Node. */
const ISOMORPHIC = ['zod', 'hash-wasm'];

/** Who may import whom, one way: `ui, hub, dynamo, node -> frontend, engine -> config -> protocol`. A hub starts its bridge (dynamo), which knows no hub. The page shows its node, so `ui` sees `node`; fixtures start a hub. */
const LAYERS: Readonly<Record<string, Layer>> = {
  protocol: { layers: [], packages: ISOMORPHIC },
  config: { layers: ['protocol'], packages: ['zod'] },
  engine: { layers: BASE, packages: ISOMORPHIC },
  frontend: { layers: BASE, packages: [...ISOMORPHIC, 'hono', '@huggingface/jinja', '@huggingface/tokenizers'] },
  node: { layers: MIDDLE, packages: [...ISOMORPHIC, 'hono', 'comlink', 'idb', '@mlc-ai/web-xgrammar'] },
  hub: { layers: ['dynamo', ...MIDDLE], packages: null },
  dynamo: { layers: MIDDLE, packages: null },
  playwright: { layers: ['hub', ...MIDDLE], packages: null },
  ui: { layers: ['node', ...MIDDLE], packages: ['preact', '@preact/signals', 'comlink', 'idb', 'zod'] },
};

/** What of the engine needs no GPU: what a model is, and whether files are one. */
const HUB_SEES = [
  'src/engine/model/',
  'src/engine/gguf/',
  'src/engine/weights/checkpoint.ts',
  'src/engine/lora/check.ts',
  'src/engine/lora/peft.ts',
];

/** The one file of the hub that knows the bridge to Dynamo. */
const HUB_BRIDGE = 'src/hub/dynamo-bridge.ts';

const MAX_LINES = 400;
const SPECIFIER =
  /(?:\bfrom|\bimport|\bimport\()\s*['"]([^'"\n]+)['"]|new URL\(\s*['"](\.[^'"\n]+)['"],\s*import\.meta\.url/g;
const WGSL = /@compute\b|@workgroup_size\b|@group\(\d|var<(storage|workgroup|uniform)\b/;

/** Every breach of the project's rules that the linter does not know, one line each. */
export function breaches(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => [...tooLong(file), ...wgslOutside(file), ...wrongImports(file)]);
}

function tooLong({ path: file, text }: SourceFile): string[] {
  const lines = text.split('\n').length - 1;
  return lines > MAX_LINES ? [`${file}: ${lines} lines; at most ${MAX_LINES}. More than one concept? Split it.`] : [];
}

function wgslOutside({ path: file, text }: SourceFile): string[] {
  if (!/^(src|bench)\/.*\.tsx?$/.test(file)) return [];
  const line = text.split('\n').findIndex((each) => WGSL.test(each));
  return line < 0 ? [] : [`${file}:${line + 1}: WGSL in TypeScript. Shaders are files of shaders/.`];
}

function wrongImports({ path: file, text }: SourceFile): string[] {
  if (!/\.tsx?$/.test(file)) return [];
  const found: string[] = [];
  for (const [, imported, url] of text.matchAll(SPECIFIER)) {
    const specifier = imported ?? url!;
    const problem = specifier.startsWith('.')
      ? wrongFile(file, specifier, url === undefined)
      : wrongPackage(file, specifier);
    if (problem) found.push(`${file}: imports ${specifier}: ${problem}`);
  }
  return found;
}

const layerOf = (file: string): string | undefined => /^src\/([^/]+)\//.exec(file)?.[1];

function wrongFile(file: string, specifier: string, isImport: boolean): string | null {
  const bare = specifier.replace(/\?.*$/, '');
  if (isImport && !path.posix.extname(bare)) return 'write the file extension.';
  const target = path.posix.join(path.posix.dirname(file), bare);
  if (file.startsWith('src/') && /^(test|bench|scripts)\//.test(target))
    return 'the product needs nothing of test, bench or scripts.';
  const from = layerOf(file);
  const to = layerOf(target);
  if (from === undefined || to === undefined || from === to) return null;
  const layer = LAYERS[from];
  if (!layer) return `src/${from} has no place among the layers; give it one in scripts/code-rules.ts.`;
  if (from === 'hub' && to === 'engine' && !HUB_SEES.some((seen) => target.startsWith(seen)))
    return `a hub knows no WebGPU; of src/engine it may import ${HUB_SEES.join(' and ')} only.`;
  if (from === 'hub' && to === 'dynamo' && file !== HUB_BRIDGE) return `of src/hub only ${HUB_BRIDGE} knows it.`;
  if (layer.layers.includes(to)) return null;
  return `src/${from} may import ${layer.layers.map((l) => `src/${l}`).join(', ') || 'nothing of the other folders'} only.`;
}

function wrongPackage(file: string, specifier: string): string | null {
  const layer = LAYERS[layerOf(file) ?? ''];
  if (!layer?.packages) return null;
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (layer.packages.includes(name)) return null;
  return `src/${layerOf(file)} may import ${layer.packages.join(', ')} only.`;
}
