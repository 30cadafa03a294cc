import { expect, test } from 'vitest';
import { pauseAfter } from '../../../src/ui/cluster-watch.ts';

test.each([
  ['at most once a second', 3, false, 1000],
  ['less where an answer takes long', 900, false, 1800],
  ['not too seldom where it takes very long', 4000, false, 5000],
  ['seldom where nobody looks', 3, true, 15_000],
])('a page asks its hub %s', (_, took, headless, pause) => expect(pauseAfter(took, headless)).toBe(pause));
