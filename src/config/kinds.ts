import * as z from 'zod';
import { Role } from '../protocol/messages.ts';

/** How an option's text becomes its value. */
export interface Kind<T> {
  /** The value's form in `--help`: `N`, `HOST`, `agg|prefill|decode`; empty for a switch. */
  readonly form: string;
  /** A switch stands alone (`--name`, `--no-name`); the others want a value. */
  readonly isSwitch: boolean;
  /** All values there are, where they are few. */
  readonly values?: readonly T[];
  /** Value of all texts given, in order. Throws an `Error` that says what was expected. */
  read(texts: readonly string[]): T;
}

function single<T>(form: string, expected: string, schema: z.ZodType<T, string>): Kind<T> {
  return {
    form,
    isSwitch: false,
    read(texts) {
      const text = texts.at(-1) ?? '';
      const result = schema.safeParse(text);
      if (!result.success) throw new Error(`expected ${expected}, got "${text.slice(0, 100)}"`);
      return result.data;
    },
  };
}

/** Text of 1 to 4096 characters. */
export const text = (form: string): Kind<string> => single(form, 'a value', z.string().min(1).max(4096));

/** Text of 1 to 4096 characters that matches `pattern`; `expected` says in words what that is. */
export const matching = (form: string, expected: string, pattern: RegExp): Kind<string> =>
  single(form, expected, z.string().max(4096).regex(pattern));

/** Text, or null when the option is not given. */
export const optionalText = (form: string): Kind<string | null> => text(form);

const WHOLE = /^\d{1,15}$/;

/** A whole number from `min` to `max`. */
export const whole = (min: number, max: number): Kind<number> =>
  single(
    'N',
    `a whole number from ${min} to ${max}`,
    z.string().regex(WHOLE).transform(Number).pipe(z.number().min(min).max(max)),
  );

/** A whole number, or null when the option is not given. */
export const optionalWhole = (min: number, max: number): Kind<number | null> => whole(min, max);

const PORT = single(
  'PORT',
  'a port from 0 to 65535, or -1 for none',
  z
    .string()
    .regex(/^(-1|\d{1,5})$/)
    .transform(Number)
    .pipe(z.number().max(65535)),
);

/** A port, 0 for any free one. -1 is Dynamo's word for none, as if the option were not given: null. */
export const optionalPort: Kind<number | null> = {
  ...PORT,
  read(texts) {
    const port = PORT.read(texts);
    return port === -1 ? null : port;
  },
};

/** A decimal number from `min` to `max`. */
export const decimal = (min: number, max: number): Kind<number> =>
  single(
    'X',
    `a number from ${min} to ${max}`,
    z
      .string()
      .regex(/^\d{0,9}\.?\d{1,9}$/)
      .transform(Number)
      .pipe(z.number().min(min).max(max)),
  );

/** A decimal number, or null when the option is not given. */
export const optionalDecimal = (min: number, max: number): Kind<number | null> => decimal(min, max);

/** One of a few words. */
export const choice = <const T extends string>(...words: readonly T[]): Kind<T> => ({
  ...single<T>(words.join('|'), `one of ${words.join(', ')}`, z.enum(words)),
  values: words,
});

/** One of a few whole numbers. */
export const wholeOf = (...numbers: readonly number[]): Kind<number> => ({
  ...single(
    numbers.join('|'),
    `one of ${numbers.join(', ')}`,
    z
      .string()
      .regex(WHOLE)
      .transform(Number)
      .refine((n) => numbers.includes(n)),
  ),
  values: numbers,
});

/** On or off: `--name`, `--no-name`, `NAME=true`, `?name`, `?name=false`. */
export const onOff: Kind<boolean> = {
  form: '',
  isSwitch: true,
  values: [true, false],
  read(texts) {
    const text = texts.at(-1) ?? '';
    if (['', 'true', '1'].includes(text)) return true;
    if (['false', '0'].includes(text)) return false;
    throw new Error(`expected true or false, got "${text.slice(0, 100)}"`);
  },
};

function jsonTexts(text: string): string[] | null {
  if (!text.startsWith('["')) return null;
  try {
    return z.array(z.string()).safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** A repeatable option; `separator` also splits one text into several, and so does a JSON list of texts, as vLLM writes them. */
export const list = <T>(item: Kind<T>, separator?: string): Kind<readonly T[]> => ({
  form: item.form,
  isSwitch: false,
  read(texts) {
    const parts = separator ? texts.flatMap((t) => jsonTexts(t) ?? t.split(separator).map((p) => p.trim())) : texts;
    if (parts.length > 256) throw new Error(`expected at most 256 values, got ${parts.length}`);
    return parts.map((part) => item.read([part]));
  },
});

/** Most nodes that one `--nodes` starts. */
const MAX_NODES = 64;

/**
 * How many nodes, and of which role: `3`, or `prefill=1,decode=2`. The value has one entry a node; null = the role that nodes have
 * anyway (`--disaggregation-mode`).
 */
export const nodeRoles: Kind<readonly (Role | null)[]> = {
  form: 'N|ROLE=N,...',
  isSwitch: false,
  read(texts) {
    const text = texts.at(-1) ?? '';
    const roles = text.split(',').flatMap((part): (Role | null)[] => {
      const [, name, count] = /^(?:([a-z]+)=)?(\d{1,4})$/.exec(part.trim()) ?? [];
      const role = Role.options.find((known) => known === name) ?? null;
      const plain = name === undefined && part === text;
      if (count === undefined || (role === null && !plain) || Number(count) > MAX_NODES)
        throw new Error(
          `expected a whole number from 0 to ${MAX_NODES}, or some for each role such as prefill=1,decode=2, got "${text.slice(0, 100)}"`,
        );
      return new Array<Role | null>(Number(count)).fill(role);
    });
    if (roles.length > MAX_NODES) throw new Error(`expected at most ${MAX_NODES} nodes, got ${roles.length}`);
    return roles;
  },
};

/** A JSON object of the shape `schema`; null when the option is not given. */
export const json = <T>(schema: z.ZodType<T>): Kind<T | null> => ({
  form: 'JSON',
  isSwitch: false,
  read(texts) {
    const text = texts.at(-1) ?? '';
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new Error(`expected JSON, got "${text.slice(0, 200)}"`, { cause });
    }
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const issue = result.error.issues[0];
    throw new Error(`${issue?.path.join('.') || 'JSON'}: ${issue?.message}`);
  },
});
