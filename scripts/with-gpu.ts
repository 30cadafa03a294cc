/**
 * Runs a command with the environment in which Dawn for Node finds a WebGPU adapter:
 *   tsx scripts/with-gpu.ts [--adapter=swiftshader|default] COMMAND ...
 * `swiftshader` (the default): the software adapter that ships with Chromium. `default`: the machine's own driver.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { findChromium } from '../src/hub/launch/find-chromium.ts';
import { thisMachine } from '../src/hub/launch/machine.ts';

/** Where distributions put Chromium's own files, when the command on PATH is a script elsewhere. */
const FOLDERS = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/opt/google/chrome', '/opt/chromium'];

const args = process.argv.slice(2);
const software = !args.includes('--adapter=default');
const [command, ...rest] = args.filter((a) => !a.startsWith('--adapter='));
if (command === undefined) {
  console.error('Usage: tsx scripts/with-gpu.ts [--adapter=swiftshader|default] COMMAND ...');
  process.exit(2);
}
const env = { ...process.env, PATH: `${path.resolve('node_modules/.bin')}${path.delimiter}${process.env.PATH}` };
const { status } = spawnSync(command, rest, { stdio: 'inherit', env: software ? { ...env, ...swiftShader() } : env });
process.exit(status ?? 1);

/** Variables that point Vulkan's loader at Chromium's SwiftShader and at nothing else. */
function swiftShader(): Record<string, string> {
  const chromium = findChromium(thisMachine, process.env.QUIRE_CHROMIUM || null);
  const beside = chromium === null ? [] : [path.dirname(realpathSync(chromium))];
  const folders = [...(process.env.QUIRE_SWIFTSHADER ? [process.env.QUIRE_SWIFTSHADER] : [...beside, ...FOLDERS])];
  const folder = folders.find((f) => existsSync(path.join(f, 'vk_swiftshader_icd.json')));
  if (folder === undefined) {
    console.error(
      `No SwiftShader found in ${folders.join(', ')}. Install Chromium (npx tsx scripts/ensure-chromium.ts), or name a folder in QUIRE_SWIFTSHADER.`,
    );
    process.exit(2);
  }
  return {
    LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
    VK_DRIVER_FILES: path.join(folder, 'vk_swiftshader_icd.json'),
  };
}
