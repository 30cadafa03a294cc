import { sha256 } from 'hash-wasm';

/**
 * Identity of a model: SHA-256 (hex) over its `config.json` and weight files (`*.safetensors`), or its GGUF file or files, as the text that
 * `sha256sum` prints for them: one line `<sha256>  <path>` a file, sorted by path. Tokenizer, templates and defaults are
 * not part of it: they do not change what an engine computes from token ids.
 * Rejects when the files lack a config or weights.
 */
export async function fingerprint(
  files: readonly { readonly path: string; readonly sha256: string }[],
): Promise<string> {
  const gguf = files.filter((f) => f.path.endsWith('.gguf'));
  if (gguf.length > 0 && gguf.length === files.length) return sha256(sums(gguf));
  const config = files.filter((f) => f.path === 'config.json');
  const weights = files.filter((f) => f.path.endsWith('.safetensors'));
  if (config.length !== 1 || weights.length === 0) {
    const found = files.map((f) => f.path).join(', ') || 'nothing';
    throw new Error(
      `A model needs a config.json and *.safetensors files, or one GGUF file or all of its parts; found ${found}. Is this the folder of a model?`,
    );
  }
  return sha256(sums([...config, ...weights]));
}

function sums(files: readonly { readonly path: string; readonly sha256: string }[]): string {
  const sorted = [...files].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return sorted.map((f) => `${f.sha256}  ${f.path}\n`).join('');
}
