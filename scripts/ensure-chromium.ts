/** Prints the path of a Chromium, after installing one where there is none and somebody agreed (`--yes`, CI=true, or a yes at the terminal). */
import { ensureChromium } from '../src/hub/launch/install-chromium.ts';
import { thisInstaller } from '../src/hub/launch/installer.ts';

const { env } = process;
const yes = process.argv.includes('--yes') || env.CI === 'true';
const executable = await ensureChromium(thisInstaller, { named: env.QUIRE_CHROMIUM || null, yes });
if (executable === null) {
  console.error('No Chromium: tests that need a browser or a software GPU cannot run.');
  process.exit(2);
}
console.log(executable);
