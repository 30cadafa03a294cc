/** Asks a question and prints the answer as it is written, its reasoning apart. */
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
});

const question = 'What is 628 + 157?';
console.log(`question   ${question}`);
const stream = await client.chat.completions.create({
  model: 'quire-pico',
  messages: [{ role: 'user', content: question }],
  chat_template_kwargs: { enable_thinking: true },
  temperature: 0,
  stream: true,
  stream_options: { include_usage: true },
});

let part = '';
let usage = null;
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  const { reasoning_content: reasoning, content } = chunk.choices[0]?.delta ?? {};
  for (const [name, text] of [
    ['reasoning', reasoning],
    ['answer', content],
  ]) {
    if (!text) continue;
    if (name !== part) process.stdout.write(`${part && '\n'}${name.padEnd(11)}`);
    part = name;
    process.stdout.write(text);
  }
}
console.log(`\nusage      ${usage.prompt_tokens} tokens of prompt, ${usage.completion_tokens} of answer`);
