/** Turns sentences into vectors, and finds those that are nearest to another. The hub: `npm start -- --runner pooling`. */
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
});

const question = 'Where does Mia live?';
const sentences = [
  'A lemon is yellow.',
  'Mia lives in Lisbon.',
  'The code for the attic is 1475.',
  'Where does Nora live?',
];

const { data, usage } = await client.embeddings.create({ model: 'quire-pico', input: [question, ...sentences] });
const [asked, ...others] = data.map(({ embedding }) => embedding);
console.log(`${data.length} vectors of ${asked.length} numbers, from ${usage.prompt_tokens} tokens`);

// Vectors come with length 1: their product is the cosine of the angle between them.
const cosine = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
console.log(`nearest to "${question}":`);
const ranked = others.map((vector, i) => ({ near: cosine(asked, vector), sentence: sentences[i] }));
for (const { near, sentence } of ranked.sort((a, b) => b.near - a.near)) console.log(near.toFixed(3), sentence);
