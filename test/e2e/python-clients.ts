import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './fixture.ts';

/** The release of OpenAI's Python client that the API is held against. */
const OPENAI = '3.54.0';

/** Without a network pip tries for a while. */
const INSTALL_MS = 180_000;

const FOLDER = path.join(ROOT, '.cache/python-clients');
const PYTHON = path.join(FOLDER, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');

/**
 * Path of a Python with that client, in an environment of its own that the first call makes; that takes Python 3.10 or newer
 * and PyPI. Throws an `Error` of one line where one of them is missing.
 */
export async function installPythonClients(): Promise<string> {
  // Of an installation that broke off the package that was asked for is missing: pip does it last.
  if ((await said(PYTHON, 'from importlib.metadata import version; print(version("openai"))')) === OPENAI)
    return PYTHON;
  const newEnough = 'import sys; print(sys.version_info >= (3, 10))';
  const base = (await said('python3', newEnough)) === 'True' ? 'python3' : 'python';
  if ((await said(base, newEnough)) !== 'True') throw new Error('there is no Python 3.10 or newer on PATH');
  try {
    await run(base, ['-m', 'venv', '--clear', '--without-pip', FOLDER]);
    const options = ['--quiet', '--no-compile', '--disable-pip-version-check'];
    const pip = ['-m', 'pip', '--python', PYTHON, 'install', ...options, `openai==${OPENAI}`];
    await run(base, pip, { timeout: INSTALL_MS });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    const reason = (stderr || message).trim().split('\n').at(-1);
    throw new Error(`openai ${OPENAI} could not be installed (${reason})`, { cause: error });
  }
  return PYTHON;
}

const run = promisify(execFile);

/** What a line of Python prints; null where it fails, or is not there. */
function said(python: string, line: string): Promise<string | null> {
  return run(python, ['-c', line]).then(
    ({ stdout }) => stdout.trim(),
    () => null,
  );
}
