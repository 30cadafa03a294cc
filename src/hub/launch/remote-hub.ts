import { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import { OptionError } from '../../config/option.ts';
import { ticketOf } from '../../protocol/join-link.ts';
import { publicKeyHash } from './tls.ts';

/** A hub that runs elsewhere, as the nodes of this machine reach it. */
export interface RemoteHub {
  readonly origin: string;
  readonly joinToken: string | null;
  /** Base64 SHA-256 of its public key, where its certificate is trusted by its fingerprint alone; else null. */
  readonly trustedKey: string | null;
}

export interface RemoteHubOptions {
  /** Address or join link. */
  readonly url: string;
  readonly joinToken: string | null;
  /** SHA-256 of the certificate, hex. */
  readonly fingerprint: string | null;
}

const CONNECT_MS = 10_000;

/** Throws `OptionError`: the hub cannot be reached, or its certificate is not to be trusted. */
export async function remoteHub({ url, joinToken, fingerprint }: RemoteHubOptions): Promise<RemoteHub> {
  const { origin, hash, protocol, hostname, port } = new URL(url);
  const token = joinToken ?? ticketOf(hash);
  if (protocol === 'http:') {
    if (fingerprint !== null) throw new OptionError(`--hub-fingerprint: ${origin} has no certificate. Leave it out.`);
    return { origin, joinToken: token, trustedKey: null };
  }
  const shown = await certificateAt(hostname.replace(/^\[|\]$/g, ''), Number(port || 443), origin);
  if (fingerprint === null) {
    if (shown.distrust === null) return { origin, joinToken: token, trustedKey: null };
    throw new OptionError(
      `The certificate of ${origin} cannot be trusted (${shown.distrust}). Where the hub made it itself, give the SHA-256 that the hub printed with --hub-fingerprint.`,
    );
  }
  const { fingerprint256 } = new X509Certificate(shown.cert);
  if (plain(fingerprint256) !== plain(fingerprint)) {
    throw new OptionError(
      `--hub-fingerprint: ${origin} shows another certificate, ${fingerprint256}. Compare it with what the hub printed: a new start makes a new one, or somebody stands between.`,
    );
  }
  return { origin, joinToken: token, trustedKey: shown.distrust === null ? null : publicKeyHash(shown.cert) };
}

const plain = (fingerprint: string): string => fingerprint.replaceAll(':', '').toLowerCase();

/** The certificate that a server shows, PEM, and why this machine does not trust it; null = it does. */
function certificateAt(host: string, port: number, origin: string): Promise<{ cert: string; distrust: string | null }> {
  return new Promise((resolve, reject) => {
    const gone = (why: string) => reject(new OptionError(`--hub-url: ${origin} cannot be reached: ${why}.`));
    // Nothing is sent before the certificate was judged, below.
    const socket = connect({ host, port, rejectUnauthorized: false, timeout: CONNECT_MS }, () => {
      const { raw } = socket.getPeerCertificate();
      const distrust = socket.authorized ? null : String(socket.authorizationError);
      socket.destroy();
      resolve({ cert: new X509Certificate(raw).toString(), distrust });
    });
    socket.once('timeout', () => {
      socket.destroy();
      gone(`no answer within ${CONNECT_MS / 1000} seconds`);
    });
    socket.once('error', (error) => gone(error.message));
  });
}
