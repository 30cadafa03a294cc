import { sha256 } from 'hash-wasm';

/**
 * Identity of a model: SHA-256 (hex) over its `config.json` and weight files (`*.safetensors`), or its one GGUF file, as the text that
 * `sha256sum` prints for them: one line `<sha256>  <path>` a file, sorted by path. Tokenizer, templates and defaults are
 * not part of it: they do not change what an engine computes from token ids.
 * Rejects when the files lack a config or weights.
 */
export async function fingerprint(
  files: readonly { readonly path: string; readonly sha256: string }[],
): Promise<string> {
  const gguf = files.filter((f) => f.path.endsWith('.gguf'));
  if (gguf.length === 1 && files.length === 1) return sha256(`${gguf[0]!.sha256}  ${gguf[0]!.path}\n`);
  const config = files.filter((f) => f.path === 'config.json');
  const weights = files.filter((f) => f.path.endsWith('.safetensors'));
  if (config.length !== 1 || weights.length === 0) {
    const found = files.map((f) => f.path).join(', ') || 'nothing';
    throw new Error(
      `A model needs a config.json and *.safetensors files, or one GGUF file; found ${found}. Is this the folder of a model?`,
    );
  }
  const lines = [...config, ...weights]
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
    .map((f) => `${f.sha256}  ${f.path}\n`);
  return sha256(lines.join(''));
}
