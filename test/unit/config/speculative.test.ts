import { describe, expect, test } from 'vitest';
import { OptionError } from '../../../src/config/option.ts';
import { parseArgs } from '../../../src/config/options.ts';
import { speculationOf } from '../../../src/config/speculative.ts';

const given = (...args: string[]) => speculationOf(parseArgs(args, {}).options['speculative-config']);

describe('speculative decoding', () => {
  const of = (config: object) =>
    given('--speculative-config', JSON.stringify({ method: 'ngram', num_speculative_tokens: 4, ...config }));

  test('is off, or prompt lookup with the bounds that vLLM has', () => {
    expect(given()).toBeNull();
    expect(of({})).toEqual({ drafts: 4, lookup: { min: 5, max: 5 } });
    expect(of({ prompt_lookup_max: 3 })).toEqual({ drafts: 4, lookup: { min: 3, max: 3 } });
    expect(of({ prompt_lookup_min: 2 })).toEqual({ drafts: 4, lookup: { min: 2, max: 2 } });
    expect(of({ prompt_lookup_min: 1, prompt_lookup_max: 3 })).toEqual({ drafts: 4, lookup: { min: 1, max: 3 } });
  });

  test.each([
    [{ method: 'eagle' }, 'method: expected "ngram"'],
    [{ model: 'small' }, 'model'],
    [{ num_speculative_tokens: 0 }, 'num_speculative_tokens'],
    [{ num_speculative_tokens: 33 }, 'num_speculative_tokens'],
    [{ prompt_lookup_min: 4, prompt_lookup_max: 3 }, 'prompt_lookup_min: expected at most prompt_lookup_max'],
  ])('refuses %o by name', (config, message) => {
    expect(() => of(config)).toThrow(message);
    expect(() => of(config)).toThrow(OptionError);
  });
});
