import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline/promises';
import type { Installer } from './install-chromium.ts';
import { isRoot, thisMachine } from './machine.ts';

/** Installs on this machine, and asks at this terminal when there is one. */
export const thisInstaller: Installer = {
  machine: thisMachine,
  isRoot,
  run: runHere,
  ask: process.stdin.isTTY && process.stdout.isTTY ? askHere : null,
  say: (line) => process.stdout.write(`${line}\n`),
};

/** Not the synchronous kind: a hub goes on answering meanwhile. */
function runHere(command: string): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, { shell: true, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', () => resolve(false));
    child.on('close', (code) => resolve(code === 0));
  });
}

async function askHere(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  // The terminal is in raw mode while it asks, so that Ctrl-C is a key and no signal.
  terminal.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    return /^y(es)?$/i.test((await terminal.question(question)).trim());
  } finally {
    terminal.close();
  }
}
