import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Constants, evaluate, shaderSource } from '../../src/engine/gpu/shader-source.ts';

/** The variant of `main`, without its constants. */
function body(main: string, constants: Constants = {}, files: Record<string, string> = {}): string {
  const library = (path: string): string => {
    const text = { main, ...files }[path];
    if (text === undefined) throw new Error(`no file ${path}`);
    return text;
  };
  return shaderSource(library, 'main', constants).split('\n').slice(Object.keys(constants).length).join('\n').trim();
}

describe('shader source', () => {
  it('declares constants: whole numbers as integers, others as floats that WGSL can read', () => {
    const source = shaderSource(() => '', 'main', { N: 3, GATHER: -1, EPS: 1e-6, TINY: 1e-7, SCALE: 0.125 });
    expect(source.trim().split('\n')).toEqual([
      'const N = 3;',
      'const GATHER = -1;',
      'const EPS = 0.000001;',
      'const TINY = 1e-7;',
      'const SCALE = 0.125;',
    ]);
  });

  it("puts WGSL's own directives before the constants", () => {
    const files: Record<string, string> = {
      main: '// what\nenable f16;\n#include "lib"\nfn f() {}',
      lib: 'diagnostic(off, x);\nalias A = f16;',
    };
    const source = shaderSource((path) => files[path]!, 'main', { N: 3 });
    expect(source.split('\n')).toEqual([
      'enable f16;',
      'diagnostic(off, x);',
      'const N = 3;',
      '// what',
      'alias A = f16;',
      'fn f() {}',
    ]);
  });

  it('puts values of expressions into lines', () => {
    expect(body(`let x_\${N} = a[\${2 * N + 1}];`, { N: 4 })).toBe('let x_4 = a[9];');
  });

  it('keeps one side of an #if, and evaluates nothing of the other', () => {
    const text = ['#if WIDE', 'wide', '#else', `scalar \${ROWS}`, '#endif', 'both'].join('\n');
    expect(body(text, { WIDE: 1 })).toBe('wide\nboth');
    expect(body(text, { WIDE: 0, ROWS: 8 })).toBe('scalar 8\nboth');
  });

  it('passes over whole blocks inside of what it leaves out', () => {
    const text = [
      '#if A',
      '#if B',
      'x',
      '#else',
      'y',
      '#endif',
      '#for i in 0..MISSING',
      'z',
      '#endfor',
      '#endif',
      'end',
    ];
    expect(body(text.join('\n'), { A: 0 })).toBe('end');
    expect(body(['#if A', 'a', '#else', '#if B', 'b', '#endif', 'c', '#endif'].join('\n'), { A: 0, B: 1 })).toBe(
      'b\nc',
    );
  });

  it('unrolls loops, nested ones too, from A to B - 1', () => {
    const text = ['#for r in 0..ROWS', '#for c in r..ROWS + 1', `s_\${r}_\${c}`, '#endfor', '#endfor'].join('\n');
    expect(body(text, { ROWS: 2 })).toBe('s_0_0\ns_0_1\ns_0_2\ns_1_1\ns_1_2');
    expect(body(text, { ROWS: 0 })).toBe('');
  });

  it('includes a file once, where it is first asked for, with the names known there', () => {
    const files = { 'lib/a': `#include "lib/b"\na \${N}`, 'lib/b': 'b' };
    const text = ['#include "lib/a"', '#include "lib/b"', '#include "lib/a"', 'main'].join('\n');
    expect(body(text, { N: 7 }, files)).toBe('b\na 7\nmain');
  });

  it.each([
    ['#endif', 'shader main: line 1: a directive that closes nothing, got "#endif"'],
    ['#if 1\nx', 'shader main: line 3: #endif expected, got "the end of the file"'],
    ['#if 0\n#for i in 0..2\n#endif', 'shader main: line 3: #endfor expected, got "#endif"'],
    ['#for i in 0..1\n#endif', 'shader main: line 2: #endfor expected, got "#endif"'],
    ['#for i = 0..1\n#endfor', 'shader main: line 1: expected "#for i in A..B", got "#for i = 0..1"'],
    ['#define X', 'shader main: line 1: unknown directive, got "#define X"'],
    ['#if NOPE\n#endif', 'shader expression "NOPE": no constant named NOPE; known: N'],
    ['#include "lib/none"', 'no file lib/none'],
  ])('refuses %j', (text, message) => {
    expect(() => body(text, { N: 1 })).toThrow(message);
  });
});

describe('shader expressions', () => {
  it.each([
    ['2 + 3 * 4', 14],
    ['(2 + 3) * 4', 20],
    ['7 / 2', 3],
    ['7 % 4 == 3 && 1 < 2', 1],
    ['0 || 2 >= 3', 0],
    ['!N', 0],
    ['!(N - 5)', 1],
    ['-N + 1', -4],
    ['10 - 3 - 2', 5],
  ])('%s = %d', (text, value) => {
    expect(evaluate(text, { N: 5 })).toBe(value);
  });

  it.each(['', '1 +', '1 2', '* 3'])('refuses %j', (text) => {
    expect(() => evaluate(text, {})).toThrow('shader expression');
  });

  it('agrees with JavaScript on whole numbers', () => {
    const { tree } = fc.letrec<{ tree: string }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 5 },
        fc.integer({ min: 0, max: 99 }).map(String),
        fc.constantFrom('A', 'B'),
        fc
          .tuple(tie('tree'), fc.constantFrom('+', '-', '*', '<', '>', '<=', '>=', '==', '!='), tie('tree'))
          .map(([a, op, b]) => `(${a} ${op} ${b})`),
        fc.tuple(tie('tree'), fc.constantFrom('+', '-', '*'), tie('tree')).map(([a, op, b]) => `(${a}) ${op} (${b})`),
        fc
          .tuple(tie('tree'), fc.constantFrom('&&', '||'), tie('tree'))
          .map(([a, op, b]) => `(!!(${a}) ${op} !!(${b}))`),
      ),
    }));
    fc.assert(
      fc.property(tree, (text) => {
        const want = Number(new Function('A', 'B', `return Number(${text})`)(3, 0));
        expect(evaluate(text, { A: 3, B: 0 })).toBe(want);
      }),
    );
  });
});
