import { NodeMessage } from '../protocol/messages.ts';
import { isPlainTokens } from '../protocol/plain-tokens.ts';

/** A node's message, or what is wrong with it. */
export type Parsed =
  | { readonly ok: true; readonly message: NodeMessage }
  | { readonly ok: false; readonly why: string };

/** Reads one text message of a node. Never throws. */
export function parseMessage(text: string): Parsed {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { ok: false, why: 'the message is not JSON' };
  }
  if (isPlainTokens(json)) return { ok: true, message: json };
  const parsed = NodeMessage.safeParse(json);
  if (parsed.success) return { ok: true, message: parsed.data };
  const issue = parsed.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? 'the message' : issue.path.join('.');
  return { ok: false, why: `${where}: ${issue?.message ?? 'not as the protocol says'}` };
}
