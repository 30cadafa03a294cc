/** Numbers as people read them. Pure; English everywhere, as the rest of the page. */
const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** `12,345`. */
export const count = (value: number): string => whole.format(value);

/** Whole from 100 up and at 0, else one digit after the point: `347`, `9.2`. */
export const rate = (value: number): string => (value >= 99.95 || value < 0.05 ? whole : oneDigit).format(value);

/** Decimal units: `512 B`, `4.2 MB`. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  let unit = 0;
  let rest = value;
  // From 999.95 on, one digit after the point would round to 1000.0.
  while (rest >= 999.95 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  return `${unit === 0 ? whole.format(rest) : oneDigit.format(rest)} ${units[unit]}`;
}

/** From milliseconds: `84 ms`, `1.3 s`. */
export const milliseconds = (value: number): string =>
  value < 999.5 ? `${whole.format(value)} ms` : `${oneDigit.format(value / 1000)} s`;

/** Roughly how long: `8 s`, `3 min`, `2 h`. */
export function duration(seconds: number): string {
  if (seconds < 59.5) return `${whole.format(Math.max(1, seconds))} s`;
  if (seconds < 59.5 * 60) return `${whole.format(seconds / 60)} min`;
  return `${whole.format(seconds / 3600)} h`;
}

/** How long ago, both in Unix milliseconds of one clock: `now`, `8 s ago`. */
export const since = (at: number, now: number): string =>
  now - at < 1000 ? 'now' : `${duration((now - at) / 1000)} ago`;

/** Part of a whole in percent, 0 for an empty whole. */
export const percent = (part: number, all: number): string => `${whole.format(all > 0 ? (100 * part) / all : 0)} %`;
