import { createHash, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { generate } from 'selfsigned';

/** PEM texts. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

const DAYS = 90;

/** A certificate for `names` (host names and addresses), made now and kept in memory: it ends with the process. */
export async function selfSigned(names: readonly string[], now: Date): Promise<TlsFiles> {
  const made = await generate([{ name: 'commonName', value: 'Quire hub' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: now,
    notAfterDate: new Date(now.getTime() + DAYS * 86_400_000),
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: names.map((name) => (isIP(name) ? { type: 7, ip: name } : { type: 2, value: name })),
      },
    ],
  });
  return { cert: made.cert, key: made.private };
}

/** SHA-256 over the certificate, as browsers show it: `AB:CD:...`. */
export function fingerprint(cert: string): string {
  return new X509Certificate(cert).fingerprint256;
}

/** Base64 SHA-256 over the certificate's public key, as Chromium's `--ignore-certificate-errors-spki-list` wants it. */
export function publicKeyHash(cert: string): string {
  const key = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}
