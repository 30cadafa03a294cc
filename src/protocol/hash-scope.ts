/** What beside its tokens, and those before them, the hashes of a block are of. */
export interface HashScope {
  readonly cacheSalt?: string | undefined;
  readonly loraName?: string | undefined;
}

/** The scope alone, of whatever has one. */
export function scopeOf({ cacheSalt, loraName }: HashScope): { cacheSalt?: string; loraName?: string } {
  return { ...(cacheSalt !== undefined && { cacheSalt }), ...(loraName !== undefined && { loraName }) };
}

export function sameScope(one: HashScope, other: HashScope): boolean {
  return one.cacheSalt === other.cacheSalt && one.loraName === other.loraName;
}
