import { without } from './char-sets.ts';
import { choice, EMPTY, type Node, type Rules, repeat, rule, sequence, text } from './ebnf.ts';
import { anyString, quoted, stringSet } from './json-text.ts';

/** Characters of keys that are told apart: those with no other spelling, so that no escape writes one of the names. */
const UNESCAPED = without(
  [
    [0x20, 0xd7ff],
    [0xe000, 0x10ffff],
  ],
  [
    [0x22, 0x22],
    [0x5c, 0x5c],
  ],
);

/** Any more characters of a key. */
export const keyRest = (rules: Rules): Node => rules.shared('key_rest', () => repeat(stringSet(UNESCAPED), 0, null));

/** A key that is none of `names`: the complement of the tree of their characters. */
export function otherKeys(rules: Rules, names: readonly string[]): Node {
  if (names.length === 0) return anyString(rules);
  const any = keyRest(rules);
  const from = (rests: readonly string[]): Node => {
    const heads = [...new Set(rests.filter((rest) => rest !== '').map((rest) => [...rest][0] as string))];
    const taken = heads.map((head): [number, number] => [head.codePointAt(0)!, head.codePointAt(0)!]);
    const other = sequence(stringSet(without(UNESCAPED, taken)), any);
    const deeper = heads
      .filter((head) => without([[head.codePointAt(0)!, head.codePointAt(0)!]], UNESCAPED).length === 0)
      .map((head) =>
        sequence(
          text(head),
          from(rests.filter((rest) => rest.startsWith(head)).map((rest) => rest.slice(head.length))),
        ),
      );
    return choice(other, ...deeper, ...(rests.includes('') ? [] : [EMPTY]));
  };
  const name = rules.reserve('other_key');
  rules.define(name, quoted(from(names)));
  return rule(name);
}
