import { BlockList, isIP } from 'node:net';
import os from 'node:os';
import { BridgeStartError } from '../start-error.ts';

/** Says whether an answer may go to `host` (numeric) when `peer` sent the request: a frontend must not make us connect to just anybody. */
export type AllowedHomes = (peer: string, host: string) => boolean;

/**
 * The requesting peer's own address, all addresses of this machine where the peer is on it (a frontend names its first routable one, whatever
 * way it came), and what `networks` has: addresses and `address/prefix`. Throws `BridgeStartError` that names a wrong one.
 */
export function allowedHomes(
  networks: readonly string[],
  ownAddresses: () => readonly string[] = machine,
): AllowedHomes {
  const allowed = networkList(networks);
  return (peer, host) => {
    const [from, to] = [plain(peer), plain(host)];
    if (from === to || has(allowed, to)) return true;
    if (has(LOOPBACK, from) && has(LOOPBACK, to)) return true;
    const here = networkList(ownAddresses());
    return [from, to].every((address) => has(LOOPBACK, address) || has(here, address));
  };
}

function networkList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix, ...rest] = network.split('/');
    const bits = isIP(address) === 6 ? 128 : 32;
    if (
      isIP(address) === 0 ||
      rest.length > 0 ||
      (prefix !== undefined && !(/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
    )
      throw new BridgeStartError(
        `'${network}' is no network (--dynamo-allow). Write an address, or an address and a prefix, as 10.1.0.0/16.`,
      );
    list.addSubnet(address, Number(prefix ?? bits), family(address));
  }
  return list;
}

const LOOPBACK = networkList(['127.0.0.0/8', '::1']);

function has(list: BlockList, address: string): boolean {
  return list.check(address, family(address));
}

function machine(): string[] {
  return Object.values(os.networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address));
}

/** IPv4 as such, also where a socket for both kinds writes it as IPv6; no zone. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=[\d.]+$)/i, '').replace(/%.*$/, '');
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}
