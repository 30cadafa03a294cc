/** Bytes and times as people read them, on the page and on the command line. Pure; English everywhere. */
const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

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

/** Roughly how long: `8 s`, `3 min`, `2 h`. */
export function duration(seconds: number): string {
  if (seconds < 59.5) return `${whole.format(Math.max(1, seconds))} s`;
  if (seconds < 59.5 * 60) return `${whole.format(seconds / 60)} min`;
  return `${whole.format(seconds / 3600)} h`;
}

/** Part of a whole in percent, 0 for an empty whole. */
export const percent = (part: number, all: number): string => `${whole.format(all > 0 ? (100 * part) / all : 0)} %`;
