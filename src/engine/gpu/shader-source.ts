/** Constants of a shader variant: integers become WGSL abstract ints, others abstract floats. */
export type Constants = Readonly<Record<string, number>>;
/** Text of a file of `shaders/` by its path there, e.g. `matmul.wgsl`. Throws when there is none. */
export type ShaderLibrary = (path: string) => string;

const WGSL_DIRECTIVE = /^(enable|requires|diagnostic)\b/;

/**
 * Text of one variant of a shader: its constants as `const NAME = value;`, then the file with three directives
 * resolved, each alone on its line:
 *   #include "lib/x.wgsl"            once per file, however often it is asked for
 *   #if EXPR / #else / #endif        kept when EXPR is not 0
 *   #for i in A..B / #endfor         the lines between, once for each i from A to B - 1
 * `${EXPR}` in any other line becomes its value. EXPR knows integers, constants, loop names, ! + - * / % comparisons,
 * && || and brackets. WGSL itself has no includes and no unrolling, and SwiftShader keeps arrays that are indexed by
 * loop variables in memory: hence this, and nothing more.
 */
export function shaderSource(library: ShaderLibrary, path: string, constants: Constants): string {
  const included = new Set<string>();
  const header = Object.entries(constants).map(([name, value]) => `const ${name} = ${literal(value)};`);
  const body: string[] = [];
  const emit = (file: string, scope: Constants): void => {
    if (included.has(file)) return;
    included.add(file);
    const lines = library(file).split('\n');
    const end = expand(lines, 0, scope, { file, out: body, include: emit });
    if (end < lines.length) throw misplaced(file, lines, end, 'a directive that closes nothing');
  };
  emit(path, constants);
  // WGSL wants its own directives before everything else.
  const first = body.filter((line) => WGSL_DIRECTIVE.test(line));
  const rest = body.filter((line) => !WGSL_DIRECTIVE.test(line));
  return [...first, ...header, ...rest].join('\n');
}

function literal(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

interface Sink {
  readonly file: string;
  /** null: the lines are only passed over. */
  readonly out: string[] | null;
  readonly include: (file: string, scope: Constants) => void;
}

/** Expands lines from `start` up to the directive that closes this level; returns that directive's line number. */
function expand(lines: readonly string[], start: number, scope: Constants, sink: Sink): number {
  const skipping: Sink = { ...sink, out: null };
  const closing = (at: number, name: string): number => {
    if (lines[at]?.trim() !== name) throw misplaced(sink.file, lines, at, `${name} expected`);
    return at;
  };
  let i = start;
  for (; i < lines.length; i++) {
    const line = lines[i]!;
    const directive = /^\s*#(\w+)\s*(.*?)\s*$/.exec(line);
    if (!directive) {
      sink.out?.push(line.replace(/\$\{([^}]*)\}/g, (_m, expr: string) => String(evaluate(expr, scope))));
      continue;
    }
    const [, kind, rest] = directive;
    if (kind === 'include') {
      if (sink.out) sink.include(rest!.replaceAll('"', ''), scope);
    } else if (kind === 'if') {
      const yes = sink.out !== null && evaluate(rest!, scope) !== 0;
      i = expand(lines, i + 1, scope, yes ? sink : skipping);
      if (lines[i]?.trim() === '#else') i = expand(lines, i + 1, scope, yes ? skipping : sink);
      closing(i, '#endif');
    } else if (kind === 'for') {
      const m = /^(\w+) in (.+)\.\.(.+)$/.exec(rest!);
      if (!m) throw misplaced(sink.file, lines, i, 'expected "#for i in A..B"');
      const end = closing(expand(lines, i + 1, scope, skipping), '#endfor');
      if (sink.out) {
        const to = evaluate(m[3]!, scope);
        for (let k = evaluate(m[2]!, scope); k < to; k++) expand(lines, i + 1, { ...scope, [m[1]!]: k }, sink);
      }
      i = end;
    } else if (kind === 'else' || kind === 'endif' || kind === 'endfor') return i;
    else throw misplaced(sink.file, lines, i, 'unknown directive');
  }
  return i;
}

function misplaced(file: string, lines: readonly string[], at: number, what: string): Error {
  return new Error(`shader ${file}: line ${at + 1}: ${what}, got "${lines[at]?.trim() ?? 'the end of the file'}"`);
}

/** Value of an integer expression over the names of `scope`; comparisons give 0 or 1. */
export function evaluate(text: string, scope: Constants): number {
  const tokens = text.match(/\d+(?:\.\d+)?|\w+|&&|\|\||[=!<>]=|[-+*/%()<>!]/g) ?? [];
  let at = 0;
  const levels: readonly (readonly string[])[] = [
    ['||'],
    ['&&'],
    ['==', '!=', '<', '>', '<=', '>='],
    ['+', '-'],
    ['*', '/', '%'],
  ];
  const atom = (): number => {
    const t = tokens[at++];
    if (t === '(') {
      const value = binary(0);
      at++;
      return value;
    }
    if (t === '!') return atom() === 0 ? 1 : 0;
    if (t === '-') return -atom();
    if (t === undefined) throw new Error(`shader expression "${text}" ends too early`);
    if (/^\d/.test(t)) return Number(t);
    const value = scope[t];
    if (value === undefined)
      throw new Error(`shader expression "${text}": no constant named ${t}; known: ${Object.keys(scope).join(', ')}`);
    return value;
  };
  const binary = (level: number): number => {
    const ops = levels[level];
    if (!ops) return atom();
    let left = binary(level + 1);
    while (ops.includes(tokens[at] ?? '')) left = apply(tokens[at++]!, left, binary(level + 1));
    return left;
  };
  const value = binary(0);
  if (at < tokens.length) throw new Error(`shader expression "${text}": unexpected "${tokens[at]}"`);
  return value;
}

function apply(op: string, a: number, b: number): number {
  switch (op) {
    case '||':
      return a || b ? 1 : 0;
    case '&&':
      return a && b ? 1 : 0;
    case '==':
      return a === b ? 1 : 0;
    case '!=':
      return a !== b ? 1 : 0;
    case '<':
      return a < b ? 1 : 0;
    case '>':
      return a > b ? 1 : 0;
    case '<=':
      return a <= b ? 1 : 0;
    case '>=':
      return a >= b ? 1 : 0;
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return Math.floor(a / b);
    default:
      return a % b;
  }
}
