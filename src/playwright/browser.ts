import { type AdapterChoice, chromiumArgs } from '../hub/launch/chromium-args.ts';
import { findChromium } from '../hub/launch/find-chromium.ts';
import { isRoot, thisMachine } from '../hub/launch/machine.ts';

/** How Playwright starts a Chromium whose pages have WebGPU. Throws an `Error` that says how to install one where there is none. */
export function launchOptionsFor(adapter: AdapterChoice) {
  const executablePath = findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null);
  if (executablePath === null)
    throw new Error('No Chromium found. Install one: npx playwright install --no-shell chromium');
  return {
    executablePath,
    chromiumSandbox: !isRoot,
    args: chromiumArgs({ adapter, isRoot, trustedKey: null, trustedOrigin: null }),
  };
}
