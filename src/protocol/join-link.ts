const KEY = 'join';

/** The join token in an address's fragment (`#join=...`), which a browser never sends to a server; null when there is none. */
export function ticketOf(hash: string): string | null {
  return new URLSearchParams(hash.replace(/^#/, '')).get(KEY) || null;
}

/** The address that makes another browser a node of the hub at `origin`. */
export function joinLinkOf(origin: string, ticket: string | null): string {
  return ticket === null ? `${origin}/` : `${origin}/#${new URLSearchParams({ [KEY]: ticket })}`;
}
