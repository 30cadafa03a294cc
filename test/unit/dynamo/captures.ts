import { readFileSync } from 'node:fs';
import * as z from 'zod';

/** Bytes as they were seen between Dynamo 1.4.0's own frontend and workers, and those of a foreign worker that it accepted. */
export function capture<T>(name: string, schema: z.ZodType<T>): T {
  const text = readFileSync(new URL(`../../fixtures/dynamo/${name}.json`, import.meta.url), 'utf8');
  return schema.parse(JSON.parse(text));
}

const Hex = z.string().transform((text) => Buffer.from(text, 'hex'));
const Stream = z.object({ frames: z.array(z.object({ hex: Hex })) });
const Mocker = Stream.extend({ request_hex: Hex });
const Leg = z.object({ body: z.record(z.string(), z.unknown()) });

export const chatRequest = capture(
  'request-chat-json',
  z.object({
    frame_hex: Hex,
    path: z.string(),
    control: z.looseObject({ id: z.string() }),
    body: z.unknown(),
    ack_hex: Hex,
  }),
);
export const chatAnswer = capture('response-stream-json', Stream).frames.map(({ hex }) => hex);
export const mockerJson = capture('response-stream-mocker-json', Mocker);
export const mockerMsgpack = capture('response-stream-mocker-msgpack', Mocker);
export const kill = capture('control-kill', z.object({ hex: Hex })).hex;
export const treeDump = capture(
  'kv-query',
  z.object({ mocker_tree_dump_frames_hex: z.array(Hex) }),
).mocker_tree_dump_frames_hex;
export const allOptions = capture('request-all-options', Leg).body;
export const stopString = capture('request-stop-string', Leg).body;
export const migrated = capture('migration-pair', z.object({ second: Leg })).second.body;
export const disaggregated = capture('disagg-result-mode', z.object({ prefill: Leg, decode: Leg }));
