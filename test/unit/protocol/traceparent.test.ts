import { expect, test } from 'vitest';
import { readTraceparent, traceIdOf } from '../../../src/protocol/traceparent.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

test('a trace context is taken as it came', () => {
  const header = `00-${TRACE}-${SPAN}-01`;
  expect(readTraceparent(header)).toBe(header);
  expect(traceIdOf(header)).toBe(TRACE);
});

// https://www.w3.org/TR/trace-context/#traceparent-header
test.each([
  null,
  '',
  `00-${TRACE}-${SPAN}`,
  `ff-${TRACE}-${SPAN}-01`,
  `00-${TRACE.toUpperCase()}-${SPAN}-01`,
  `00-${'0'.repeat(32)}-${SPAN}-01`,
  `00-${TRACE}-${'0'.repeat(16)}-01`,
  `00-${TRACE}-${SPAN}-01-extra`,
  `00-${TRACE}-${SPAN}-01\n`,
])('%j is none, which is no error', (header) => {
  expect(readTraceparent(header)).toBeUndefined();
});
