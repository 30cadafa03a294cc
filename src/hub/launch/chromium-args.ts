/** Which WebGPU adapter a headless browser is to use. */
export type AdapterChoice = 'hardware' | 'software';

export interface ChromiumArgs {
  readonly adapter: AdapterChoice;
  readonly isRoot: boolean;
  /** Base64 SHA-256 of the hub's public key, when the browser must trust a certificate that nobody signed. */
  readonly trustedKey: string | null;
  /** Origin that is neither https nor localhost and all the same must have WebGPU in this browser. */
  readonly trustedOrigin: string | null;
}

/** A page nobody looks at is throttled or frozen by default; a node must not be. */
const AWAKE = [
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--disable-background-networking',
];

const ADAPTER: Record<AdapterChoice, readonly string[]> = {
  software: ['--use-webgpu-adapter=swiftshader'],
  // Headless Chromium on Linux starts without the GPU unless told so, and its WebGPU speaks Vulkan there.
  hardware: [
    '--use-webgpu-adapter=default',
    '--enable-gpu',
    '--ignore-gpu-blocklist',
    ...(process.platform === 'linux'
      ? ['--enable-features=Vulkan', '--use-angle=vulkan', '--disable-vulkan-surface']
      : []),
  ],
};

/** Command line of a headless browser whose pages are nodes. */
export function chromiumArgs({ adapter, isRoot, trustedKey, trustedOrigin }: ChromiumArgs): string[] {
  return [
    '--enable-unsafe-webgpu',
    ...ADAPTER[adapter],
    ...AWAKE,
    ...(isRoot ? ['--no-sandbox'] : []),
    ...(trustedKey === null ? [] : [`--ignore-certificate-errors-spki-list=${trustedKey}`]),
    ...(trustedOrigin === null ? [] : [`--unsafely-treat-insecure-origin-as-secure=${trustedOrigin}`]),
  ];
}
