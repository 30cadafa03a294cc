import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT, test } from './fixture.ts';

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
async function installPythonClients(): Promise<string> {
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

/** The same for tests: where it cannot be had they are skipped, and the output says why. */
export async function pythonOrSkip(): Promise<string> {
  try {
    return await installPythonClients();
  } catch (error) {
    const reason = `No test of the Python client: ${(error as Error).message}.`;
    console.log(reason);
    test.skip(true, reason);
    throw error;
  }
}

/** The lines that a program with these clients prints; it must end with 0. */
export async function printedByPython(
  python: string,
  program: string,
  api: string,
  ...args: string[]
): Promise<string[]> {
  const env = { ...process.env, OPENAI_BASE_URL: api, PYTHONUTF8: '1' };
  const { stdout } = await run(python, [path.join(ROOT, program), ...args], { env });
  return stdout.trim().split('\n');
}

const run = promisify(execFile);

/** What a line of Python prints; null where it fails, or is not there. */
function said(python: string, line: string): Promise<string | null> {
  return run(python, ['-c', line]).then(
    ({ stdout }) => stdout.trim(),
    () => null,
  );
}
