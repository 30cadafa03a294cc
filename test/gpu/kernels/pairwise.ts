import { random } from './reference.ts';

/**
 * Cases in which every value of each factor meets every value of each other factor at least once (greedy, as in
 * Cohen et al. 1997, "The AETG system"); the same cases every time.
 */
export function pairwise<const T extends Record<string, readonly unknown[]>>(
  factors: T,
): { [K in keyof T]: T[K][number] }[] {
  const names = Object.keys(factors);
  const sizes = names.map((name) => factors[name]!.length);
  const pair = (a: number, x: number, b: number, y: number) => (a < b ? `${a}:${x} ${b}:${y}` : `${b}:${y} ${a}:${x}`);
  const open = new Set<string>();
  sizes.forEach((size, a) => {
    for (let b = a + 1; b < sizes.length; b++)
      for (let x = 0; x < size; x++) for (let y = 0; y < sizes[b]!; y++) open.add(pair(a, x, b, y));
  });
  const rand = random(1);
  const cases: number[][] = [];
  while (open.size > 0) {
    const chosen: (number | undefined)[] = names.map(() => undefined);
    for (const part of [...open][0]!.split(' ')) {
      const [factor, value] = part.split(':').map(Number);
      chosen[factor!] = value!;
    }
    for (let a = 0; a < sizes.length; a++) {
      if (chosen[a] !== undefined) continue;
      const gains = Array.from({ length: sizes[a]! }, (_v, x) =>
        chosen.reduce<number>((sum, y, b) => sum + (y !== undefined && open.has(pair(a, x, b, y)) ? 1 : 0), rand() / 2),
      );
      chosen[a] = gains.indexOf(Math.max(...gains));
    }
    const complete = chosen.map((value) => value!);
    complete.forEach((x, a) => {
      for (let b = a + 1; b < complete.length; b++) open.delete(pair(a, x, b, complete[b]!));
    });
    cases.push(complete);
  }
  return cases.map(
    (values) =>
      Object.fromEntries(values.map((value, a) => [names[a]!, factors[names[a]!]![value]])) as {
        [K in keyof T]: T[K][number];
      },
  );
}
