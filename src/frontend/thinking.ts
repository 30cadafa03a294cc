import type { ServedModel } from './backend.ts';
import { badRequest } from './errors.ts';

/**
 * Variables of the chat template that turn a model's reasoning on or off. `field` is what asked for it. Throws `ApiError` 400 where the
 * model does otherwise and its template has no switch.
 */
export function thinkingSwitch(model: ServedModel, on: boolean, field: string): Record<string, unknown> {
  const template = model.tokenizer?.template ?? '';
  if (template.includes('enable_thinking')) return { enable_thinking: on };
  const thinks = model.parsers.reasoning !== null;
  if (on === thinks) return {};
  const what = on ? 'does not reason' : 'reasons whatever it is told';
  throw badRequest(`'${field}' cannot be done: this model ${what}. Leave it out.`, field);
}
