import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright';
import { createServer } from 'vite';
import { chromiumArgs } from '../src/hub/launch/chromium-args.ts';
import { findChromium } from '../src/hub/launch/find-chromium.ts';
import { isRoot, thisMachine } from '../src/hub/launch/machine.ts';
import type { PageOptions } from './in-page/main.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Times of kernels are of no use when they come in steps of 100 microseconds. */
const EXACT_TIMES = '--disable-dawn-features=timestamp_quantization';

/** The bench by shape in a page of headless Chromium, with the tables that the page makes. */
export async function benchShapePage(software: boolean, options: PageOptions): Promise<string> {
  const executable = findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null);
  if (executable === null) throw new Error('No Chromium found. Install one: npx tsx scripts/ensure-chromium.ts');
  const server = await createServer({ root: ROOT, configFile: false, logLevel: 'error', server: { port: 0 } });
  await server.listen();
  const browser = await chromium.launch({
    executablePath: executable,
    args: [
      ...chromiumArgs({ adapter: software ? 'software' : 'hardware', isRoot, trustedKey: null, trustedOrigin: null }),
      EXACT_TIMES,
    ],
    chromiumSandbox: false,
  });
  try {
    const page = await browser.newPage();
    await page.goto(`${server.resolvedUrls?.local[0]}bench/in-page/index.html`);
    await page.waitForFunction(() => typeof globalThis.quireBench === 'function');
    const tables = await page.evaluate((o) => globalThis.quireBench(o), options);
    return `In ${browser.version()} of Chromium, in a page:\n\n${tables}`;
  } finally {
    await browser.close();
    await server.close();
  }
}
