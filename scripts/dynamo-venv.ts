/**
 * A Python with NVIDIA Dynamo in it, for the tests and figures that need a real one:
 *   tsx scripts/dynamo-venv.ts
 * prints the path of that Python, after making it in `.cache/dynamo-venv` where it is not yet. Dynamo runs there without a GPU.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The release whose wires and figures Quire is held against; it has wheels for Linux alone, and for these versions of Python. */
export const DYNAMO = '1.4.0';
const PYTHONS = ['python3.12', 'python3.11', 'python3.10', 'python3'];
const MINORS = ['10', '11', '12'];
const PACKAGES = [`ai-dynamo==${DYNAMO}`, 'uvloop'];

const FOLDER = path.resolve(import.meta.dirname, '../.cache/dynamo-venv');
const PYTHON = path.join(FOLDER, 'bin/python');

/** Path of the Python that has Dynamo; null where it was not installed. */
export function installedDynamo(): string | null {
  // Of an installation that broke off the packages that were asked for are missing: pip does them last.
  const versions = 'from importlib.metadata import version; version("uvloop"); print(version("ai-dynamo"))';
  return said(PYTHON, ['-c', versions]) === DYNAMO ? PYTHON : null;
}

/** The same, installed from PyPI where it was not (minutes, about 600 MB). Throws an `Error` of one line where that cannot be. */
export function installDynamo(): string {
  const installed = installedDynamo();
  if (installed !== null) return installed;
  const python = PYTHONS.find((command) =>
    MINORS.includes(said(command, ['-c', 'import sys; print(sys.version_info.minor)']) ?? ''),
  );
  if (process.platform !== 'linux' || python === undefined) {
    throw new Error(`Dynamo ${DYNAMO} needs Linux with Python 3.10, 3.11 or 3.12 on PATH. Install one of them first.`);
  }
  run(python, ['-m', 'venv', '--clear', FOLDER]);
  run(PYTHON, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES]);
  return PYTHON;
}

/** What a command wrote; null where it failed or is not there. */
function said(command: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout.trim() : null;
}

function run(command: string, args: readonly string[]): void {
  // Standard output is for the path alone.
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2] });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ', see above'}.`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(installDynamo());
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 2;
  }
}
