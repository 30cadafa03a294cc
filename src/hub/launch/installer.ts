import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline/promises';
import type { Installer } from './install-chromium.ts';
import { isRoot, thisMachine } from './machine.ts';

/** Installs on this machine, and asks at this terminal when there is one. */
export const thisInstaller: Installer = {
  machine: thisMachine,
  isRoot,
  run: (command) => spawnSync(command, { shell: true, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0,
  ask: process.stdin.isTTY && process.stdout.isTTY ? askHere : null,
  say: (line) => process.stdout.write(`${line}\n`),
};

async function askHere(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(question)).trim());
  } finally {
    terminal.close();
  }
}
