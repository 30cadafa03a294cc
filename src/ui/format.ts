/** Numbers as people read them. Pure; English everywhere, as the rest of the page. */
import { duration } from '../protocol/quantities.ts';

export { bytes, duration, percent } from '../protocol/quantities.ts';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** `12,345`. */
export const count = (value: number): string => whole.format(value);

/** Whole from 100 up and at 0, else one digit after the point: `347`, `9.2`. */
export const rate = (value: number): string => (value >= 99.95 || value < 0.05 ? whole : oneDigit).format(value);

/** From milliseconds: `84 ms`, `1.3 s`. */
export const milliseconds = (value: number): string =>
  value < 999.5 ? `${whole.format(value)} ms` : `${oneDigit.format(value / 1000)} s`;

/** How long ago, both in Unix milliseconds of one clock: `now`, `8 s ago`. */
export const since = (at: number, now: number): string =>
  now - at < 1000 ? 'now' : `${duration((now - at) / 1000)} ago`;
