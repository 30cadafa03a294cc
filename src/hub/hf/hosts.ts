import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { HubStartError } from '../start-error.ts';

export const DEFAULT_ENDPOINT = 'https://huggingface.co';

/** Where huggingface.co keeps large files, as its documentation on downloading behind a firewall names it. */
const DEFAULT_HOSTS = ['*.huggingface.co', '*.hf.co'];

/** The part of `dns.lookup` that is used here; tests put their own in its place. */
export type Resolve = (
  hostname: string,
  options: LookupOptions & { all: true },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** Addresses that are of this machine, its network, or of nobody. */
const PRIVATE = new BlockList();
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const)
  PRIVATE.addSubnet(net, prefix, 'ipv4');
for (const [net, prefix] of [
  ['::', 128],
  ['::1', 128],
  // These carry an IPv4 address, which may be any.
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['2001::', 32],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const)
  PRIVATE.addSubnet(net, prefix, 'ipv6');

/** Whether an address is loopback, private, link-local, multicast or a tunnel. */
export const isPrivate = (address: string): boolean => PRIVATE.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');

/**
 * Which hosts may be asked: that of the endpoint and those that the operator allows. Private addresses only where the operator named the
 * host itself; the addresses that a name has are checked as the connection is made, so that no second answer of DNS can differ.
 */
export class Hosts {
  readonly endpoint: URL;
  private readonly allowed: readonly string[];
  private readonly isDefault: boolean;

  /** allowed: `HOST[:PORT]` or `*.DOMAIN[:PORT]`; empty = the default endpoint's own, none of another. */
  constructor(
    endpoint: string,
    allowed: readonly string[],
    private readonly resolve: Resolve = systemLookup,
  ) {
    this.endpoint = new URL(endpoint.endsWith('/') ? endpoint : `${endpoint}/`);
    this.isDefault = this.endpoint.href === `${DEFAULT_ENDPOINT}/`;
    this.allowed = (allowed.length > 0 || !this.isDefault ? allowed : DEFAULT_HOSTS).map((each) => each.toLowerCase());
  }

  /** Whether the token of the endpoint may go there. */
  isEndpoint(url: URL): boolean {
    return url.origin === this.endpoint.origin;
  }

  /** Throws `HubStartError` where `url` must not be asked. */
  check(url: URL): void {
    const shown = `${url.protocol}//${url.host}`;
    if (url.protocol !== 'https:' && (url.protocol !== 'http:' || this.endpoint.protocol === 'https:')) {
      throw new HubStartError(`${this.endpoint.host} sends on to ${shown}: only https is followed from there.`);
    }
    if (!this.isEndpoint(url) && !this.isAllowed(url)) {
      throw new HubStartError(
        `${this.endpoint.host} sends on to ${shown}, which nobody allowed. If you trust that host, start with --hf-allowed-hosts ${hostText(url)}.`,
      );
    }
    const address = bare(url);
    if (isIP(address) !== 0 && isPrivate(address) && !this.isNamed(url)) throw this.privateError(url, address);
  }

  /** Finds addresses for a connection to `url`, none of them private unless the operator named the host. */
  lookupFor(url: URL): LookupFunction {
    const named = this.isNamed(url);
    return (hostname, options, done) => {
      this.resolve(hostname, { ...options, all: true }, (error, found) => {
        const wrong = named ? undefined : found?.find(({ address }) => isPrivate(address));
        if (error) done(error, []);
        else if (wrong !== undefined) done(this.privateError(url, wrong.address), []);
        else if (options.all === true) done(null, found);
        else done(null, found[0]!.address, found[0]!.family);
      });
    };
  }

  private isAllowed(url: URL): boolean {
    const host = hostText(url);
    return this.allowed.some((each) => (each.startsWith('*.') ? host.endsWith(each.slice(1)) : host === each));
  }

  private isNamed(url: URL): boolean {
    if (this.isEndpoint(url)) return !this.isDefault;
    return this.allowed.includes(hostText(url));
  }

  private privateError(url: URL, address: string): HubStartError {
    const next = this.isEndpoint(url)
      ? 'Check the DNS of this machine.'
      : `If you trust it, start with --hf-allowed-hosts ${hostText(url)}.`;
    return new HubStartError(
      `${url.host} has the address ${address}, which is of this machine or its network, and is not asked. ${next}`,
    );
  }
}

/** `HOST`, with `:PORT` where it is not the usual one of the scheme. */
const hostText = (url: URL): string => url.host.toLowerCase();

const bare = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '');
