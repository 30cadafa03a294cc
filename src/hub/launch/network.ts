import type { NetworkInterfaceInfo } from 'node:os';

type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

/** Whether only this machine reaches the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Whether the address stands for all addresses of the machine. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::' || host === '';
}

/** The machine's addresses for others, IPv4 first; `os.networkInterfaces()` in. Link-local IPv6 needs a zone and is left out. */
export function lanAddresses(interfaces: Interfaces): string[] {
  const all = Object.values(interfaces).flatMap((infos) => infos ?? []);
  const reachable = all.filter(({ internal, address }) => !internal && !address.toLowerCase().startsWith('fe80:'));
  const of = (family: 'IPv4' | 'IPv6') => reachable.filter((i) => i.family === family).map((i) => i.address);
  return [...new Set([...of('IPv4'), ...of('IPv6')])];
}

/** The addresses for others of a hub that listens on `host`; `lan` are the machine's. None where it listens on loopback alone. */
export function reachableHosts(host: string, lan: readonly string[]): readonly string[] {
  if (isLoopback(host)) return [];
  if (!isWildcard(host)) return [host];
  // 0.0.0.0 takes IPv4 alone, :: takes both.
  return host === '0.0.0.0' ? lan.filter((address) => !address.includes(':')) : lan;
}

/** `host:port` as it stands in a URL. */
export function origin(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
