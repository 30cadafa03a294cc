/** Whether a page can lend its GPU here; when not, why, and what a person can do about it, best first. */
export type Capability =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly reason: 'insecure-context' | 'no-webgpu';
      readonly message: string;
      readonly steps: readonly { readonly text: string; readonly command?: string }[];
    };

/** What of the browser the check looks at. */
export interface BrowserFacts {
  readonly isSecureContext: boolean;
  readonly hasWebGpu: boolean;
  /** The page has a hub; without one it computes for itself alone. */
  readonly hasHub: boolean;
  readonly location: { readonly protocol: string; readonly hostname: string; readonly port: string };
}

/** Looks only at what is there; whether an adapter answers is found out by the worker when it opens one. */
export function checkCapability(facts: BrowserFacts): Capability {
  const { protocol, hostname, port } = facts.location;
  const insecure = `Browsers give WebGPU only to pages that come over https or from localhost, and this one came from ${protocol}//${hostname}.`;
  if (!facts.isSecureContext && !facts.hasHub) {
    const steps = [
      { text: 'Serve this folder over https, or open it from a file server on this machine (http://localhost).' },
    ];
    return { ok: false, reason: 'insecure-context', message: insecure, steps };
  }
  if (!facts.isSecureContext) {
    const hubPort = port || (protocol === 'https:' ? '443' : '80');
    const local = Number(hubPort) < 1024 ? '8080' : hubPort;
    return {
      ok: false,
      reason: 'insecure-context',
      message: insecure,
      steps: [
        {
          text: 'Start the hub with its own certificate and open the https address that it prints:',
          command: 'npm start -- --http-host 0.0.0.0 --tls self-signed',
        },
        {
          text: `Or bring the hub to this machine over ssh, and open http://localhost:${local} here:`,
          command: `ssh -L ${local}:127.0.0.1:${hubPort} ${hostname}`,
        },
      ],
    };
  }
  if (!facts.hasWebGpu) {
    return {
      ok: false,
      reason: 'no-webgpu',
      message: facts.hasHub
        ? 'This browser has no WebGPU, so it cannot lend its GPU. The playground works all the same.'
        : 'This browser has no WebGPU, and the model computes on nothing else.',
      steps: [
        {
          text: 'Open this page in a recent Chrome or Edge (113 or newer), Safari (26 or newer) or Firefox (141 or newer).',
        },
        {
          text: 'On Linux, Chrome may need its WebGPU switch; open this address and enable it:',
          command: 'chrome://flags/#enable-unsafe-webgpu',
        },
        {
          text: 'If hardware acceleration is off, turn it on; this address says what the browser found:',
          command: 'chrome://gpu',
        },
      ],
    };
  }
  return { ok: true };
}
