import { badRequest } from '../errors.ts';
import { choice, GrammarError, type Node, Rules, repeat, sequence, text } from './ebnf.ts';
import { schemaNode } from './json-schema.ts';
import { comma, listed, member } from './json-text.ts';

/** A function that the model may call. */
export interface CallableTool {
  readonly function: { readonly name: string; readonly parameters?: Readonly<Record<string, unknown>> | undefined };
}

/** Calls of one answer, at most, where several may come. */
const MOST_CALLS = 128;

/**
 * The grammar of forced calls, in vLLM's form: of `name` its arguments alone; of any tool (null) a list of calls, of one call unless `parallel`.
 * Throws `ApiError` 400 for parameters that cannot be held to.
 */
export function forcedCallsGrammar(tools: readonly CallableTool[], name: string | null, parallel: boolean): string {
  const rules = new Rules();
  rules.reserve('root');
  const forced = tools.filter((tool) => name === null || tool.function.name === name);
  if (forced.length === 0)
    throw badRequest(`'tool_choice' names ${JSON.stringify(name)}, which is not among the 'tools'.`, 'tool_choice');
  const parameters = forced.map((tool) => parametersNode(tool, tools.indexOf(tool), rules));
  try {
    const [first] = parameters;
    if (name !== null && first) rules.define('root', first);
    else {
      const calls = forced.map((tool, i) => callNode(tool.function.name, parameters[i] as Node, rules));
      const call = rules.reserve('call');
      rules.define(call, choice(...calls));
      const one: Node = { kind: 'rule', name: call };
      const more = parallel ? [repeat(sequence(comma(rules), one), 0, MOST_CALLS - 1)] : [];
      rules.define('root', listed(rules, '[', sequence(one, ...more), ']'));
    }
    return rules.print();
  } catch (error) {
    if (error instanceof GrammarError)
      throw badRequest(`Cannot hold calls to these 'tools': ${error.message}.`, 'tools');
    throw error;
  }
}

function parametersNode(tool: CallableTool, at: number, rules: Rules): Node {
  try {
    return schemaNode(tool.function.parameters ?? { type: 'object' }, rules);
  } catch (error) {
    const field = `tools[${at}].function.parameters`;
    if (error instanceof GrammarError) throw badRequest(`Cannot hold the call to '${field}': ${error.message}.`, field);
    throw error;
  }
}

function callNode(name: string, parameters: Node, rules: Rules): Node {
  const called = member(rules, text('"name"'), text(JSON.stringify(name)));
  return listed(rules, '{', sequence(called, comma(rules), member(rules, text('"parameters"'), parameters)), '}');
}
