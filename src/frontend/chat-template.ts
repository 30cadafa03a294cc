import { Template } from '@huggingface/jinja';
import { badRequest } from './errors.ts';

/** One message as a template sees it (HF's `apply_chat_template`): `content` is text, arguments of tool calls are objects. */
export type TemplateMessage = Readonly<Record<string, unknown>>;

export interface TemplateInput {
  readonly messages: readonly TemplateMessage[];
  readonly tools: readonly unknown[] | null;
  readonly addGenerationPrompt: boolean;
  /** The text ends with that of the last message, which is left open for the model to go on with. */
  readonly continueFinalMessage?: boolean;
  /** `documents`: what templates for retrieval show to the model. */
  readonly documents?: readonly unknown[] | undefined;
  /** `chat_template_kwargs`: more variables for the template. */
  readonly kwargs: Readonly<Record<string, unknown>>;
}

/** Names that `chat_template_kwargs` may not take: they are set by the request itself or belong to the template language. */
const RESERVED = new Set([
  'messages',
  'tools',
  'documents',
  'add_generation_prompt',
  'raise_exception',
  'strftime_now',
  'range',
  'true',
  'false',
  'none',
  'True',
  'False',
  'None',
]);

/** A model's chat template, parsed once. Jinja as HF transformers runs it (`trim_blocks`, `lstrip_blocks`). */
export class ChatTemplate {
  readonly #default: Template;
  readonly #toolUse: Template | null;
  readonly #knowsDeveloper: boolean;
  /** The templates as they were written, one after the other. */
  readonly text: string;

  /**
   * `source` is one template, or HF's list of named ones (`default`, and `tool_use` for requests with tools).
   * `specialTokens` are the variables `bos_token`, `eos_token`, ... Throws `Error` when a template does not parse.
   */
  constructor(
    source: string | readonly { readonly name: string; readonly template: string }[],
    readonly specialTokens: Readonly<Record<string, string>>,
  ) {
    const named = typeof source === 'string' ? [{ name: 'default', template: source }] : source;
    this.text = named.map((entry) => entry.template).join('\n');
    const text = (name: string) => named.find((entry) => entry.name === name)?.template;
    const main = text('default');
    if (main === undefined) throw new Error('The chat templates of tokenizer_config.json have none named "default".');
    const toolUse = text('tool_use');
    this.#default = new Template(main);
    this.#toolUse = toolUse === undefined ? null : new Template(toolUse);
    this.#knowsDeveloper = main.includes('developer');
  }

  /** The prompt's text. Throws `ApiError` 400 when the template refuses the messages (`raise_exception`) or fails on them. */
  render(input: TemplateInput): string {
    for (const name of Object.keys(input.kwargs)) {
      if (RESERVED.has(name) || name in this.specialTokens) {
        throw badRequest(`'chat_template_kwargs' must not set '${name}': the server sets it.`, 'chat_template_kwargs');
      }
    }
    const template = input.tools !== null && this.#toolUse !== null ? this.#toolUse : this.#default;
    const text = this.#text(template, input);
    return input.continueFinalMessage === true ? openEnded(text, input.messages.at(-1)) : text;
  }

  #text(template: Template, input: TemplateInput): string {
    try {
      return template.render({
        ...input.kwargs,
        ...this.specialTokens,
        messages: input.messages.map((message) => this.#asKnown(message)),
        ...(input.tools === null ? {} : { tools: input.tools }),
        ...(input.documents === undefined ? {} : { documents: input.documents }),
        add_generation_prompt: input.addGenerationPrompt,
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw badRequest(`The model's chat template refused these messages: ${reason}`, 'messages');
    }
  }

  // `developer` is OpenAI's newer name of `system`: templates that never heard of it would print the word itself. `reasoning` is vLLM's
  // newer name of what templates call `reasoning_content`.
  #asKnown({ reasoning, ...message }: TemplateMessage): TemplateMessage {
    return {
      ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
      ...message,
      ...(message.role === 'developer' && !this.#knowsDeveloper ? { role: 'system' } : {}),
    };
  }
}

/** The prompt up to the end of its last message's text, as HF's `continue_final_message` cuts it. */
function openEnded(text: string, last: TemplateMessage | undefined): string {
  const content = String(last?.content ?? '');
  const words = content.trim();
  const at = text.lastIndexOf(words);
  if (at < 0) {
    throw badRequest(
      "'continue_final_message' cannot be done: the model's chat template changes the text of the last message.",
      'continue_final_message',
    );
  }
  // Templates that trim a message's text trim what the model goes on after, too.
  const end = content.slice(content.indexOf(words) + words.length);
  const kept = text.startsWith(end, at + words.length) ? end.length : 0;
  return text.slice(0, at + words.length + kept);
}
