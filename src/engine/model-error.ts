import type * as z from 'zod';
import { EngineError } from './api.ts';

/** An error in what a model's files say: `where` (a file), what is wrong and what to do, as one message. */
export function modelError(where: string, what: string, options?: ErrorOptions): EngineError {
  return new EngineError('model', `${where}: ${what}`, options);
}

/** Checks untrusted JSON against a schema. Throws `EngineError` code `model` that names the file and the first wrong fields. */
export function checked<T extends z.ZodType>(schema: T, value: unknown, where: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 3);
  throw modelError(
    where,
    issues.map((i) => `${i.path.length > 0 ? `${i.path.join('.')}: ` : ''}${i.message}`).join('; '),
  );
}
