/** A model by name, as in `Qwen/Qwen3-0.6B@main` or `Qwen/Qwen3-0.6B-GGUF:Q8_0`. */
export interface ModelRef {
  /** `org/name`. */
  readonly id: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Which of its GGUF files: a file's name, or the end of it. null = not said. */
  readonly gguf: string | null;
}

const REF = /^([a-z\d][\w.-]{0,95}\/[a-z\d][\w.-]{0,95})(?:@([\w][\w./-]{0,254}))?(?::([a-z\d][\w.+-]{0,199}))?$/i;

/** The name, revision and choice that `text` spells; null where it spells none, a path for example. */
export function modelRef(text: string): ModelRef | null {
  const [, id, revision = 'main', gguf = null] = REF.exec(text) ?? [];
  if (id === undefined || `${id}/${revision}/${gguf}`.includes('..')) return null;
  return { id, revision, gguf };
}

/** Whether a revision is a commit, which never changes. */
export const isCommit = (revision: string): boolean => /^[\da-f]{40}$/.test(revision);
