import * as z from 'zod';

/** Header `traceparent` of W3C Trace Context, version 00: trace id and the caller's span id, neither of them all zeros. */
export const Traceparent = z.string().regex(/^00-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}$/);

/** A header's trace context; undefined where it is none, which by the standard is no error. */
export function readTraceparent(header: string | null): string | undefined {
  return Traceparent.safeParse(header).data;
}

/** The trace id, as log lines name it. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  return traceparent?.split('-')[1];
}
