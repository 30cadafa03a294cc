import type exported from '@mlc-ai/web-xgrammar';

export type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';

type Xgrammar = typeof exported;

/** What xgrammar wrote last, oldest first. */
const written: string[] = [];
const KEPT_LINES = 8;

let loading: Promise<Xgrammar> | null = null;

/** Loads xgrammar, whose WebAssembly lies within its script, on the first call. */
export function loadXgrammar(): Promise<Xgrammar> {
  loading ??= load();
  return loading;
}

/**
 * Its package calls a UMD script an ES module. Vite gives it the `exports` that it looks for, Node does not: there it leaves itself on the
 * global object, and takes the script's address from `location`, which a page's worker has. What it says of errors it writes to the console that it finds when it starts.
 */
async function load(): Promise<Xgrammar> {
  const place = globalThis as { location?: { href: string }; xgrammar?: Xgrammar };
  const borrowed = place.location === undefined;
  if (borrowed) place.location = { href: import.meta.url };
  const { error, log } = console;
  const note = (...words: unknown[]) => {
    written.push(words.map(String).join(' '));
    written.splice(0, written.length - KEPT_LINES);
  };
  try {
    const module: { default?: Xgrammar } = await import('@mlc-ai/web-xgrammar');
    const xgrammar = module.default ?? place.xgrammar;
    if (xgrammar === undefined) throw new Error('The grammar engine did not load. Reload the page.');
    Object.assign(console, { error: note, log: note });
    await xgrammar.Grammar.fromEBNF('root ::= "a"');
    return xgrammar;
  } finally {
    Object.assign(console, { error, log });
    if (borrowed) delete place.location;
  }
}

/**
 * Why a call failed: xgrammar writes that down, and WebAssembly itself only says that it was aborted. Where it wrote nothing it did not mean
 * to fail, and its memory cannot be trusted (`meant` false).
 */
export function causeOf(error: unknown): { readonly words: string; readonly meant: boolean } {
  const fatal = written.findLast((line) => line.includes('[FATAL]'));
  written.length = 0;
  // "[FATAL] /path/of/its/source.cc:123: what is wrong"
  const words = fatal?.replace(/^.*?\.cc:\d+:\s*/, '') ?? (error instanceof Error ? error.message : String(error));
  return { words: words.slice(0, 500), meant: fatal !== undefined };
}
