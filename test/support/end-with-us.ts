import type { ChildProcess } from 'node:child_process';

/** Kills a child when this process exits in whatever way it can see: at the end, and when something was thrown that nobody caught. */
export function endWithUs(child: ChildProcess): void {
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
}
