import * as z from 'zod';

/** A field that other servers know and this one does not. `reason`: a clause, for the error's message and docs/api.md. */
export const refused = (reason: string) => z.never(reason).optional();
/** The same for a field that some clients always send, with the one value that asks for nothing. */
const only = <const T extends boolean | number>(neutral: T, reason: string) =>
  z.literal(neutral, `only ${neutral} is supported: ${reason}`).optional();

const MEDIA = 'models here read and write text only';

/** Fields of OpenAI's, vLLM's and Dynamo's that both endpoints refuse by name. */
export const refusedFields = {
  use_beam_search: only(false, 'there is no beam search here'),
  length_penalty: only(1, 'there is no beam search here'),
  allowed_token_ids: refused('tokens cannot be limited to a list; logit_bias makes some more likely'),
  bad_words: refused('words cannot be barred; logit_bias of -100 bars a token'),
  logits_processors: refused('no code of a request runs here'),
  vllm_xargs: refused('there are no custom sampling arguments here'),
  kv_transfer_params: refused('the hub decides where KV blocks go; see nvext for wishes'),
  request_id: refused('name a request with the header x-request-id'),
  guided_decoding_backend: refused('there is one way of holding output to a grammar'),
  guided_whitespace_pattern: refused('JSON has the blanks that it may have'),
};

/** Those of /v1/chat/completions alone. */
export const refusedChatFields = {
  functions: refused('it is deprecated; use tools'),
  function_call: refused('it is deprecated; use tool_choice'),
  audio: refused(MEDIA),
  prediction: refused('predicted output is not used here'),
  web_search_options: refused('nothing is fetched here'),
  verbosity: refused('models here do not know it; say it in a message'),
  reasoning_effort: refused('templates take such wishes in chat_template_kwargs'),
  media_io_kwargs: refused(MEDIA),
};

/** Those of all endpoints that take messages. */
export const refusedTemplateFields = {
  chat_template: refused('templates of requests do not run here; start the server with --chat-template'),
  mm_processor_kwargs: refused(MEDIA),
};
