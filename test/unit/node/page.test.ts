import { describe, expect, test } from 'vitest';
import { checkCapability } from '../../../src/node/page/capabilities.ts';
import { keepAlive } from '../../../src/node/page/keep-alive.ts';
import { joinLinkOf, ticketOf } from '../../../src/protocol/join-link.ts';

const facts = (url: string, isSecureContext: boolean, hasWebGpu: boolean, hasHub = true) => {
  const { protocol, hostname, port } = new URL(url);
  return { isSecureContext, hasWebGpu, hasHub, location: { protocol, hostname, port } };
};

describe('what a page can do', () => {
  test('a secure page with WebGPU can lend', () => {
    expect(checkCapability(facts('https://hub.example', true, true))).toEqual({ ok: true });
  });

  test('an insecure page is told of https and of an ssh line with its own host and port', () => {
    const answer = checkCapability(facts('http://192.168.1.5:8081/', false, false));
    if (answer.ok) throw new Error('expected a refusal');
    expect(answer.reason).toBe('insecure-context');
    expect(answer.message).toContain('http://192.168.1.5');
    expect(answer.steps.map((step) => step.command)).toEqual([
      'npm start -- --http-host 0.0.0.0 --tls self-signed',
      'ssh -L 8081:127.0.0.1:8081 192.168.1.5',
    ]);
  });

  test('on a privileged port the ssh line listens on one that needs no root', () => {
    const answer = checkCapability(facts('http://hub.lan/', false, false));
    if (answer.ok) throw new Error('expected a refusal');
    expect(answer.steps[1]?.command).toBe('ssh -L 8080:127.0.0.1:80 hub.lan');
  });

  test('a browser without WebGPU is told which have it', () => {
    const answer = checkCapability(facts('http://127.0.0.1:8080/', true, false));
    if (answer.ok) throw new Error('expected a refusal');
    expect(answer.reason).toBe('no-webgpu');
    expect(answer.steps[0]?.text).toMatch(/Chrome.*Safari.*Firefox/);
  });

  test('a page without a hub is told nothing of hubs', () => {
    for (const secure of [true, false]) {
      const answer = checkCapability(facts('http://files.lan/quire/', secure, false, false));
      if (answer.ok) throw new Error('expected a refusal');
      expect(answer.reason).toBe(secure ? 'no-webgpu' : 'insecure-context');
      expect(JSON.stringify(answer)).not.toMatch(/hub|npm start|lend|playground/);
    }
  });
});

describe('a join link', () => {
  test('carries the token in its fragment, and gives it back whatever is in it', () => {
    const token = 'a+b/c=&#d';
    const link = joinLinkOf('https://hub.example:8080', token);
    expect(new URL(link).search).toBe('');
    expect(ticketOf(new URL(link).hash)).toBe(token);
  });

  test('has no fragment where no token is needed; other fragments are no tokens', () => {
    expect(joinLinkOf('http://127.0.0.1:8080', null)).toBe('http://127.0.0.1:8080/');
    expect(ticketOf('')).toBeNull();
    expect(ticketOf('#section')).toBeNull();
    expect(ticketOf('#join=')).toBeNull();
  });
});

describe('keeping a page awake', () => {
  test('holds a lock of its own until it is let go', async () => {
    let held: Promise<unknown> | undefined;
    const names: string[] = [];
    const request = (name: string, callback: () => Promise<unknown>) => {
      names.push(name);
      held = callback();
      return held;
    };
    const locks = { request } as unknown as LockManager;
    const letGo = keepAlive(locks);
    const other = keepAlive(locks);
    expect(new Set(names).size).toBe(2);
    other();
    await expect(held).resolves.toBeUndefined();
    letGo();
  });

  test('does nothing in a browser without locks', () => {
    expect(() => keepAlive(undefined)()).not.toThrow();
  });
});
