import { describe, expect, it } from 'vitest';
import { EOS, pico } from '../frontend/support.ts';
import { ask, asked, type Body, changed, chat, ids, says, textOf, tokensOf } from './asking.ts';
import { stopString } from './captures.ts';

describe('stop strings', () => {
  const script = [1600, 644, 84, 76, 1032, 1148, 22, 1600, 644, 84, 76, 1032];
  const whole = script.map((id) => new TextDecoder().decode(pico.piece(id).bytes)).join('');

  it('are held back here, to the character: the frontend would show their beginning', async () => {
    expect(whole).toContain('world');
    const backend = says(script);
    const { items } = await ask(stopString, backend);
    expect(textOf(items)).toBe(whole.slice(0, whole.indexOf('world')));
    expect(items.at(-1)).toMatchObject({ finish_reason: 'stop' });
    expect(tokensOf(items).length).toBeLessThan(script.length);
    expect(backend.signals[0]?.aborted).toBe(true);
    // Names for logprobs, one a token.
    for (const { token_ids, tokens } of items) expect(tokens).toHaveLength((token_ids as number[]).length);
  });

  it('are part of the text where the client wants them', async () => {
    const body = changed(stopString, { sampling_options: { include_stop_str_in_output: true } });
    const { items } = await ask(body, says(script));
    expect(textOf(items)).toBe(whole.slice(0, whole.indexOf('world') + 'world'.length));
  });

  it('that do not come leave the whole text, what was held back too', async () => {
    const body = changed(stopString, {
      stop_conditions: { stop: [`${whole.slice(-3)}never`], max_tokens: script.length },
    });
    const { items } = await ask(body, says(script));
    expect(textOf(items)).toBe(whole);
    expect(items.at(-1)).toMatchObject({ finish_reason: 'length' });
  });

  it('come with the names of likely tokens, which frontends leave empty beside texts', async () => {
    const { items } = await ask(changed(stopString, { output_options: { logprobs: 1 } }), says(script));
    const bytes = [...pico.piece(100).bytes];
    const top = {
      rank: 1,
      token_id: 100,
      token: new TextDecoder().decode(Uint8Array.from(bytes)),
      bytes,
      logprob: -0.5,
    };
    expect(items[0]).toMatchObject({ log_probs: [-0.75], top_logprobs: [[top]] });
  });

  it('given as ids end the answer without the text of the id', async () => {
    const body = changed(chat, { stop_conditions: { stop_token_ids: [84], max_tokens: 20 } });
    const { items } = await ask(body, says(script));
    expect(tokensOf(items)).toEqual([1600, 644, 84]);
    expect(textOf(items)).toBe([1600, 644].map((id) => new TextDecoder().decode(pico.piece(id).bytes)).join(''));
    expect(items.at(-1)).toMatchObject({ finish_reason: 'stop' });
  });
});

describe('guided decoding', () => {
  const guided = (guided_decoding: object, change: Body = {}) =>
    changed(changed(chat, { sampling_options: { guided_decoding } }), change);

  it.each<[string, object, RegExp]>([
    ['a schema', { json: { type: 'object', properties: { city: { type: 'string' } } } }, /city/],
    ['the text of a schema', { json: '{"type":"object","properties":{"city":{"type":"string"}}}' }, /city/],
    ['a pattern', { regex: '(yes|no)!', backend: 'xgrammar' }, /\[y\] \[e\] \[s\]/],
    ['a choice', { choice: ['left', 'right'] }, /"left"/],
    ['a grammar', { grammar: 'root ::= "hm"' }, /"hm"/],
  ])('by %s becomes a grammar', async (_what, options, grammar) => {
    const backend = says([7, EOS]);
    const { error } = await ask(guided(options), backend);
    expect(error).toBeNull();
    expect(asked(backend).grammar).toMatch(grammar);
  });

  it('begins after reasoning that the prompt begins, and goes on after its end with ignore_eos', async () => {
    const backend = says([7, EOS]);
    await ask(guided({ regex: 'a' }, { token_ids: [1, ...ids('<think>\n')] }), backend);
    const [start] = ids('<think>');
    const [end] = ids('</think>');
    expect(asked(backend)).toMatchObject({ thought: { begun: true, starts: [start], ends: [end] } });
    const free = says([7, EOS]);
    await ask(guided({ regex: 'a' }, { stop_conditions: { ignore_eos: true } }), free);
    expect(asked(free)).toMatchObject({ grammarEnds: expect.arrayContaining([EOS]) });
    expect(asked(free)).not.toHaveProperty('thought');
  });

  it.each<[string, Body, string]>([
    ['a schema that nothing can be held to', guided({ json: { type: 'object', not: {} } }), 'structured_outputs.json'],
    ['two of them', guided({ json: { type: 'object' }, regex: 'a' }), 'both say what the answer must be'],
    ['a structural tag', guided({ structural_tag: {} }), 'sampling_options.guided_decoding.structural_tag'],
  ])('by %s is a bad request, and computes nothing', async (_what, body, message) => {
    const backend = says([7]);
    const { error, items } = await ask(body, backend);
    expect(error).toMatchObject({ type: 'InvalidArgument', message: expect.stringContaining(message) });
    expect(items).toEqual([]);
    expect(backend.requests).toEqual([]);
  });
});
