import { isIP } from 'node:net';
import * as z from 'zod';
import { WireError } from './incoming.ts';

/** Where the answer of a request goes: a connection that the worker opens. */
export interface CallHome {
  /** A numeric address. */
  readonly host: string;
  readonly port: number;
  /** Names the stream on the other side. */
  readonly subject: string;
}

const ConnectionInfo = z.object({
  address: z.string().max(128),
  subject: z.string().min(1).max(256),
  stream_type: z.literal('response'),
});

/** First part of a request's payload, as far as it is used here. */
const Control = z.object({
  request_type: z.literal('single_in'),
  response_type: z.literal('many_out'),
  payload_codec: z.enum(['json', 'msgpack']).default('json'),
  connection_info: z.object({ transport: z.literal('tcp_server'), info: z.string().max(4096) }),
});
export type Control = Pick<z.infer<typeof Control>, 'payload_codec'> & { readonly home: CallHome };

/** Reads the header of a request's two-part message. Throws `WireError`. */
export function readControl(header: Buffer): Control {
  const { payload_codec, connection_info } = checked(Control, header.toString(), 'the control header');
  const { address, subject } = checked(ConnectionInfo, connection_info.info, 'connection_info.info');
  return { payload_codec, home: { ...readAddress(address), subject } };
}

/** `host:port` with a numeric host; frontends write IPv6 with and without brackets. Throws `WireError`. */
export function readAddress(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1');
  const port = text.slice(colon + 1);
  if (isIP(host) === 0 || !/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 0xffff)
    throw new WireError(`the address '${text}', which is no numeric address with a port`);
  return { host, port: Number(port) };
}

function checked<T>(schema: z.ZodType<T>, json: string, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new WireError(`${what} is not JSON`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new WireError(`${what}: ${issue?.path.join('.')}: ${issue?.message}`);
}
