import { CopyButton } from './copy-button.tsx';
import { joinLink } from './state.ts';

/** How another GPU joins: the link, and what a link to loopback needs beside. */
export function LendBox() {
  const link = joinLink.value;
  if (link === null) return null;
  const { hostname, port, protocol } = new URL(link);
  const hubPort = port || (protocol === 'https:' ? '443' : '80');
  const ssh = `ssh -L ${hubPort}:127.0.0.1:${hubPort} HUB`;
  return (
    <section class="panel lend" aria-labelledby="lend-title">
      <h2 id="lend-title">Lend another GPU</h2>
      <p class="quiet">Open this address in a browser with WebGPU. The page joins by itself; closing it is leaving.</p>
      <p class="command">
        <code data-testid="join-link">{link}</code>
        <CopyButton text={link} what="address" />
      </p>
      {isLoopback(hostname) && (
        <details>
          <summary>From another machine</summary>
          <p class="quiet">
            This address works on the hub’s machine only. From another one bring its port over, with that machine’s name
            in the place of HUB, and open the address there:
          </p>
          <p class="command">
            <code>{ssh}</code>
            <CopyButton text={ssh} what="command" />
          </p>
          <p class="quiet">Or start the hub for the whole network; it prints the link then:</p>
          <p class="command">
            <code>npm start -- --http-host 0.0.0.0 --tls self-signed</code>
            <CopyButton text="npm start -- --http-host 0.0.0.0 --tls self-signed" what="command" />
          </p>
        </details>
      )}
    </section>
  );
}

const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
