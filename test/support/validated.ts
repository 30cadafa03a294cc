import * as z from 'zod';

/** Throws unless `text` is JSON that `schema` holds for. */
export function validated(schema: object, text: string): void {
  const value: unknown = JSON.parse(text);
  const result = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(value);
  if (!result.success) throw new Error(`${text}\n${z.prettifyError(result.error)}`);
}
