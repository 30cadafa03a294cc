import { createHash, X509Certificate } from 'node:crypto';
import { createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { NetworkInterfaceInfo } from 'node:os';
import { expect, test } from 'vitest';
import { isLoopback, isWildcard, lanAddresses, origin, reachableHosts } from '../../../src/hub/launch/network.ts';
import { fingerprint, publicKeyHash, selfSigned } from '../../../src/hub/launch/tls.ts';

test('loopback and wildcard', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '::1', 'a.localhost'])
    expect(isLoopback(host), host).toBe(true);
  for (const host of ['0.0.0.0', '::', '192.168.1.2', '127.0.0.1.example.org', 'localhost.example.org', '1127.0.0.1'])
    expect(isLoopback(host), host).toBe(false);
  expect(isWildcard('0.0.0.0') && isWildcard('::')).toBe(true);
  expect(isWildcard('10.0.0.1')).toBe(false);
});

test("the machine's addresses: others' first, without loopback, link-local and doubles", () => {
  const info = (address: string, internal = false): NetworkInterfaceInfo =>
    address.includes(':')
      ? { address, internal, family: 'IPv6', netmask: '', mac: '', cidr: null, scopeid: 0 }
      : { address, internal, family: 'IPv4', netmask: '', mac: '', cidr: null };
  const interfaces = {
    lo: [info('127.0.0.1', true), info('::1', true)],
    eth0: [info('2001:db8::7'), info('192.168.1.5'), info('fe80::1')],
    eth1: [info('10.0.0.2'), info('192.168.1.5')],
    gone: undefined,
  };
  expect(lanAddresses(interfaces)).toEqual(['192.168.1.5', '10.0.0.2', '2001:db8::7']);
});

test('others reach a hub where it listens, and by no other protocol', () => {
  const lan = ['192.168.1.5', '2001:db8::7'];
  expect(reachableHosts('127.0.0.1', lan)).toEqual([]);
  expect(reachableHosts('0.0.0.0', lan)).toEqual(['192.168.1.5']);
  expect(reachableHosts('::', lan)).toEqual(lan);
  expect(reachableHosts('lab-7', lan)).toEqual(['lab-7']);
});

test('IPv6 goes into brackets', () => {
  expect(origin('https', '2001:db8::7', 8080)).toBe('https://[2001:db8::7]:8080');
  expect(origin('http', '10.0.0.2', 80)).toBe('http://10.0.0.2:80');
});

test('a self-signed certificate is good for its names and addresses only, and serves https', async () => {
  const { cert, key } = await selfSigned(['localhost', '127.0.0.1', '::1', '192.168.1.5', 'lab-7'], new Date());
  const x509 = new X509Certificate(cert);
  expect(x509.checkHost('localhost')).toBe('localhost');
  expect(x509.checkHost('lab-7')).toBe('lab-7');
  expect(x509.checkHost('example.org')).toBeUndefined();
  expect(x509.checkIP('192.168.1.5')).toBe('192.168.1.5');
  expect(x509.checkIP('192.168.1.6')).toBeUndefined();
  expect(x509.ca).toBe(false);

  const server = createServer({ cert, key }, (_req, res) => res.end('yes'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const body = await new Promise<string>((resolve, reject) => {
    // Verified against the certificate itself: nothing is ignored here.
    const asked = request({ host: '127.0.0.1', port, ca: cert }, (res) => {
      res.setEncoding('utf8').on('data', resolve);
    });
    asked.on('error', reject).end();
  });
  expect(body).toBe('yes');
  await new Promise((resolve) => server.close(resolve));
});

test('fingerprints are SHA-256 over the certificate and over its public key', async () => {
  const { cert } = await selfSigned(['localhost'], new Date());
  const der = Buffer.from(cert.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const hex = createHash('sha256').update(der).digest('hex').toUpperCase();
  expect(fingerprint(cert)).toBe(hex.match(/../g)!.join(':'));
  // A P-256 public key in SubjectPublicKeyInfo form is 91 bytes that begin like this (RFC 5480).
  const at = der.indexOf(Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex'));
  expect(at).toBeGreaterThan(0);
  expect(publicKeyHash(cert)).toBe(
    createHash('sha256')
      .update(der.subarray(at, at + 91))
      .digest('base64'),
  );
});
