/** Why a hub closed a node's WebSocket (application codes of RFC 6455, 4000 to 4999). The reason text says more. */
export const CLOSE = {
  /** A message broke a rule of the protocol. */
  protocol: 4400,
  /** The join token is missing or wrong. */
  ticket: 4401,
  /** No protocol version in common. */
  version: 4406,
  /** No `hello` in time, or two pings without an answer. */
  timeout: 4408,
  /** The same node came back on another socket. */
  replaced: 4409,
  /** Fingerprint, block size or hash algorithm differ from the hub's. */
  model: 4422,
  /** More messages or bytes a second than a node may send. */
  flood: 4429,
  /** The node reads slower than the hub must write. */
  slowReader: 4430,
  /** The hub has as many nodes as it may have. */
  full: 4503,
  /** The hub ends. */
  goingAway: 1001,
} as const;
export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

const FINAL: ReadonlySet<number> = new Set([
  CLOSE.protocol,
  CLOSE.ticket,
  CLOSE.version,
  CLOSE.replaced,
  CLOSE.model,
  CLOSE.flood,
]);

/** Whether coming back as it is would end the same way; on all other codes a node reconnects. */
export function isFinalClose(code: number): boolean {
  return FINAL.has(code);
}

/** Longest reason of a close frame, bytes of UTF-8 (RFC 6455, 5.5: 125, less two for the code). A browser throws at more. */
const MAX_REASON_BYTES = 123;

/** `reason` as a close frame can carry it: whole, or its first words and an ellipsis. */
export function closeReason(reason: string): string {
  const bytes = new TextEncoder().encode(reason);
  if (bytes.length <= MAX_REASON_BYTES) return reason;
  const room = bytes.subarray(0, MAX_REASON_BYTES - new TextEncoder().encode('…').length);
  // As a stream, so that a character that was cut in two is left out.
  const text = new TextDecoder().decode(room, { stream: true });
  return `${text.replace(/\s+\S*$/, '')}…`;
}
