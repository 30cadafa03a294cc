/** What signals are caught from; `process`, or a stand-in of tests. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

export interface Shutdown {
  /** Ends everything in good order. */
  readonly close: (signal: NodeJS.Signals) => Promise<void>;
  /** Ends the process at once; what it started must not outlive it. */
  readonly exit: (code: number) => void;
  readonly say: (line: string) => void;
  /** After so long `close` is given up. */
  readonly timeoutMs: number;
}

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
/** One key press may arrive twice: from the terminal, and from the npm that started this process. */
const SAME_PRESS_MS = 250;

/** The first signal closes in good order and exits with 0, a second one exits with 130 at once. */
export function closeOnSignals(
  source: SignalSource,
  { close, exit, say, timeoutMs }: Shutdown,
  now: () => number,
): void {
  let first: number | null = null;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (first !== null) {
      if (now() - first > SAME_PRESS_MS) exit(130);
      return;
    }
    first = now();
    const timer = setTimeout(() => {
      say(`Not closed after ${timeoutMs / 1000} seconds: ending by force.`);
      exit(1);
    }, timeoutMs);
    close(signal).then(
      () => {
        clearTimeout(timer);
        exit(0);
      },
      (error: unknown) => {
        say(`Could not close in good order: ${error instanceof Error ? error.message : String(error)}`);
        exit(1);
      },
    );
  };
  for (const signal of SIGNALS) source.on(signal, onSignal);
}

const LOOK_MS = 500;

/**
 * Under `npm start` a SIGTERM for npm ends the shell between, and this process never hears of it: when the parent is gone, act
 * as if the signal had come here. Started otherwise, a process may well outlive its parent, and this does nothing.
 */
export function endWithNpm(): void {
  if (process.env.npm_lifecycle_event !== 'start') return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, LOOK_MS);
  timer.unref();
}
