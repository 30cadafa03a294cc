import { describe, expect, it } from 'vitest';
import { AccessPolicy } from '../../../src/hub/access.ts';

function policy(host = '127.0.0.1', allowedHosts: string[] = [], allowedOrigins: string[] = []): AccessPolicy {
  return new AccessPolicy({ host, allowedHosts, allowedOrigins });
}

describe('Host', () => {
  it.each(['localhost', 'localhost:8080', 'LOCALHOST:1', '127.0.0.1:8080', '[::1]:8080'])(
    '%s is this machine',
    (host) => {
      expect(policy().hostAllowed(host)).toBe(true);
    },
  );

  it.each([
    undefined,
    '',
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    'localhost@evil.example',
    'evil.example#localhost',
    '127.0.0.1.evil.example',
    '192.168.1.5:8080',
    '[fe80::1]',
    'local host',
    'localhost:123456',
  ])('%s is not', (host) => {
    expect(policy().hostAllowed(host)).toBe(false);
  });

  it('a listed name is taken, with and without port, and no other', () => {
    const open = policy('127.0.0.1', ['gpu.example', 'Tunnel.Example:9000']);
    expect(open.hostAllowed('gpu.example')).toBe(true);
    expect(open.hostAllowed('GPU.example:8080')).toBe(true);
    expect(open.hostAllowed('tunnel.example:9000')).toBe(true);
    expect(open.hostAllowed('sub.gpu.example')).toBe(false);
  });

  it('a hub that is open to the network takes addresses, but no names: those can be rebound', () => {
    for (const bound of ['0.0.0.0', '::', '192.168.1.5']) {
      expect(policy(bound).hostAllowed('192.168.1.5:8080')).toBe(true);
      expect(policy(bound).hostAllowed('[fe80::1]:8080')).toBe(true);
      expect(policy(bound).hostAllowed('evil.example')).toBe(false);
    }
    expect(policy('hub.example').hostAllowed('hub.example:8080')).toBe(true);
  });
});

describe('Origin', () => {
  it.each([
    ['http://localhost:8080', 'localhost:8080', true],
    ['https://hub.example', 'hub.example', true],
    ['http://[::1]:8080', '[::1]:8080', true],
    ['http://localhost:8081', 'localhost:8080', false],
    ['http://127.0.0.1:8080', 'localhost:8080', false],
    ['https://evil.example', 'localhost:8080', false],
    ['http://localhost:8080.evil.example', 'localhost:8080', false],
    ['null', 'localhost:8080', false],
    ['', 'localhost:8080', false],
    ['http://localhost:8080', undefined, false],
    [undefined, 'localhost:8080', true],
  ])('%s to %s: %s', (origin, host, allowed) => {
    expect(policy().originAllowed(origin, host)).toBe(allowed);
  });

  it('listed origins are taken as they are written; * takes all', () => {
    const listed = policy('127.0.0.1', [], ['https://chat.example']);
    expect(listed.originAllowed('https://chat.example', 'localhost')).toBe(true);
    expect(listed.originAllowed('http://chat.example', 'localhost')).toBe(false);
    expect(listed.originAllowed('https://chat.example:444', 'localhost')).toBe(false);
    expect(policy('127.0.0.1', [], ['*']).originAllowed('https://any.example', 'localhost')).toBe(true);
  });
});
