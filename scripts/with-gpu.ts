/**
 * Runs a command with the environment in which Dawn for Node finds a WebGPU adapter:
 *   tsx scripts/with-gpu.ts [--adapter=swiftshader|default] COMMAND ...
 * `swiftshader` (the default): the software adapter that ships with Chromium. `default`: the machine's own driver.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

const FOLDERS = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/opt/google/chrome', '/opt/chromium'];

const args = process.argv.slice(2);
const software = !args.includes('--adapter=default');
const command = args.filter((a) => !a.startsWith('--adapter='));
const env = { ...process.env };
if (software) {
  const folder = [process.env.QUIRE_SWIFTSHADER, ...FOLDERS].find(
    (f) => f && existsSync(path.join(f, 'vk_swiftshader_icd.json')),
  );
  if (!folder) {
    console.error(
      `No SwiftShader found in ${FOLDERS.join(', ')}. Install Chromium (apt-get install chromium) or name its folder in QUIRE_SWIFTSHADER.`,
    );
    process.exit(2);
  }
  env.LD_LIBRARY_PATH = [folder, env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  env.VK_DRIVER_FILES = path.join(folder, 'vk_swiftshader_icd.json');
}
const bin = path.resolve('node_modules/.bin');
const { status } = spawnSync(command[0]!, command.slice(1), {
  stdio: 'inherit',
  env: { ...env, PATH: `${bin}:${env.PATH}` },
});
process.exit(status ?? 1);
