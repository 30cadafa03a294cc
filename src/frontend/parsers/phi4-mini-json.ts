import { callList } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';

/** Phi-4-mini: `functools[{"name": ..., "arguments": {...}}, ...]`. */
export const phi4MiniJson: CallFormat = {
  markers: ['functools'],
  special: [],
  bare: null,
  *read(reader) {
    yield* callList(reader, null);
  },
};
