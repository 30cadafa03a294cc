import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { closeOnSignals } from '../../../src/hub/launch/shutdown.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function setUp() {
  const source = new EventEmitter();
  const exits: number[] = [];
  const said: string[] = [];
  let end = { resolve: () => {}, reject: (_error: Error) => {} };
  const close = vi.fn(
    () =>
      new Promise<void>((resolve, reject) => {
        end = { resolve, reject };
      }),
  );
  const parts = {
    close,
    exit: (code: number) => exits.push(code),
    say: (line: string) => said.push(line),
    timeoutMs: 9000,
  };
  closeOnSignals(source, parts, Date.now);
  return { source, exits, said, close, end: () => end };
}

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s closes in good order, then exits with 0', async (signal) => {
  const { source, exits, close, end } = setUp();
  source.emit(signal, signal);
  expect(close).toHaveBeenCalledWith(signal);
  expect(exits).toEqual([]);
  end().resolve();
  await vi.advanceTimersByTimeAsync(0);
  expect(exits).toEqual([0]);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(exits).toEqual([0]);
});

test('the same key press, come twice, is one; a second one ends at once', () => {
  const { source, exits, close } = setUp();
  source.emit('SIGINT', 'SIGINT');
  vi.advanceTimersByTime(20);
  source.emit('SIGINT', 'SIGINT');
  expect(exits).toEqual([]);
  vi.advanceTimersByTime(500);
  source.emit('SIGINT', 'SIGINT');
  expect(exits).toEqual([130]);
  expect(close).toHaveBeenCalledTimes(1);
});

test('what hangs or fails ends by force with 1, and says so', async () => {
  const hung = setUp();
  hung.source.emit('SIGTERM', 'SIGTERM');
  await vi.advanceTimersByTimeAsync(9000);
  expect(hung.exits).toEqual([1]);
  expect(hung.said.join()).toContain('9 seconds');
  const failed = setUp();
  failed.source.emit('SIGTERM', 'SIGTERM');
  failed.end().reject(new Error('disk on fire'));
  await vi.advanceTimersByTimeAsync(0);
  expect(failed.exits).toEqual([1]);
  expect(failed.said.join()).toContain('disk on fire');
});
