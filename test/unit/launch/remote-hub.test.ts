import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OptionError } from '../../../src/config/option.ts';
import { remoteHub } from '../../../src/hub/launch/remote-hub.ts';
import { fingerprint, publicKeyHash, selfSigned } from '../../../src/hub/launch/tls.ts';

let server: Server;
let url = '';
let cert = '';
beforeAll(async () => {
  const tls = await selfSigned(['127.0.0.1'], new Date());
  cert = tls.cert;
  server = createServer(tls, (_request, response) => response.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

const NONE = { joinToken: null, fingerprint: null };

test('a plain address, and a join link with its token, which --join-token overrides', async () => {
  expect(await remoteHub({ ...NONE, url: 'http://hub.test:8080' })).toEqual({
    origin: 'http://hub.test:8080',
    joinToken: null,
    trustedKey: null,
  });
  const link = 'http://192.168.1.5:8080/#join=a%2Bb';
  expect(await remoteHub({ ...NONE, url: link })).toMatchObject({
    origin: 'http://192.168.1.5:8080',
    joinToken: 'a+b',
  });
  expect(await remoteHub({ ...NONE, url: link, joinToken: 'own' })).toMatchObject({ joinToken: 'own' });
});

test('a certificate that nobody signed is trusted by the fingerprint that the hub printed, and by that alone', async () => {
  const printed = fingerprint(cert);
  for (const given of [printed, printed.toLowerCase(), printed.replaceAll(':', '')]) {
    expect(await remoteHub({ ...NONE, url: `${url}/#join=t`, fingerprint: given })).toEqual({
      origin: url,
      joinToken: 't',
      trustedKey: publicKeyHash(cert),
    });
  }
  await expect(remoteHub({ ...NONE, url })).rejects.toThrow(/cannot be trusted .*--hub-fingerprint/);
  const other = fingerprint((await selfSigned(['127.0.0.1'], new Date())).cert);
  await expect(remoteHub({ ...NONE, url, fingerprint: other })).rejects.toThrow(
    /shows another certificate, .*stands between/,
  );
});

test('a fingerprint without a certificate, and a hub that is not there, are one line', async () => {
  const cases = [
    remoteHub({ ...NONE, url: 'http://hub.test', fingerprint: 'ab'.repeat(32) }),
    remoteHub({ ...NONE, url: 'https://127.0.0.1:1' }),
  ];
  for (const each of cases) {
    const error = await each.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OptionError);
    expect((error as OptionError).message).not.toContain('\n');
  }
});
