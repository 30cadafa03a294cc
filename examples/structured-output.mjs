/** Holds answers to a schema: whatever the model and its temperature, what comes back can be parsed. */
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import * as z from 'zod';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
});

const Person = z.object({
  name: z.string().max(12),
  city: z.enum(['Lisbon', 'Oslo', 'Quito']),
  age: z.number().int().min(0).max(120),
});
const response_format = zodResponseFormat(Person, 'person');
const asked = (content) => ({ model: 'quire-pico', messages: [{ role: 'user', content }] });

const known = asked('Write this as JSON with the keys name, city, age: Mia lives in Lisbon. Mia is 41 years old.');
const { choices } = await client.chat.completions.parse({ ...known, response_format, temperature: 0 });
console.log('told of Mia:   ', JSON.stringify(choices[0].message.parsed));

// Nothing to go by, and so hot that it would be nonsense: the values are, the form is not.
const unknown = asked('Write somebody as JSON.');
const hot = await client.chat.completions.parse({ ...unknown, response_format, temperature: 2, n: 4 });
for (const { message } of hot.choices) console.log('told of nobody:', JSON.stringify(message.parsed));

// vLLM's fields go into the request as they are.
for (const structured_outputs of [{ choice: ['yes', 'no'] }, { regex: '[A-Z]{2}-[0-9]{4}' }]) {
  const answer = await client.chat.completions.create({ ...unknown, structured_outputs, temperature: 2 });
  console.log(`${JSON.stringify(structured_outputs)}: ${answer.choices[0].message.content}`);
}
