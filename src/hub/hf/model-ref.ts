/** A model by name, as in `Qwen/Qwen3-0.6B@main`. */
export interface ModelRef {
  /** `org/name`. */
  readonly id: string;
  /** Branch, tag or commit. */
  readonly revision: string;
}

const REF = /^([a-z\d][\w.-]{0,95}\/[a-z\d][\w.-]{0,95})(?:@([\w][\w./-]{0,254}))?$/i;

/** The name and revision that `text` spells; null where it spells none, a path for example. */
export function modelRef(text: string): ModelRef | null {
  const [, id, revision = 'main'] = REF.exec(text) ?? [];
  if (id === undefined || `${id}/${revision}`.includes('..')) return null;
  return { id, revision };
}

/** Whether a revision is a commit, which never changes. */
export const isCommit = (revision: string): boolean => /^[\da-f]{40}$/.test(revision);
