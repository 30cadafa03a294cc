/** Asks 32 things at once, and shows that they are computed together: one step of a GPU is one token of each. */
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
});
const CLIENTS = 32;
const ANIMALS = ['otter', 'goat', 'hen', 'fox', 'owl', 'crow', 'whale', 'pony'];
const PLACES = ['harbor', 'forest', 'castle', 'market'];

/** A counter of all nodes together; they report theirs once a second. */
async function counter(name) {
  const metrics = await (await fetch(new URL('/metrics', client.baseURL))).text();
  const series = metrics.split('\n').filter((line) => line.startsWith(`${name}{`));
  return series.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
const counters = async () => [await counter('quire_node_steps_total'), await counter('quire_node_decode_rows_total')];

async function ask(i) {
  const content = `Tell me a story about a brave ${ANIMALS[i % 8]} named Nora in the ${PLACES[i >> 3]}.`;
  const request = { model: 'quire-pico', messages: [{ role: 'user', content }], max_tokens: 24 };
  return (await client.chat.completions.create(request)).usage.completion_tokens;
}

const [stepsBefore, rowsBefore] = await counters();
const start = performance.now();
const answers = await Promise.all(Array.from({ length: CLIENTS }, (_, i) => ask(i)));
const seconds = (performance.now() - start) / 1000;
await new Promise((resolve) => setTimeout(resolve, 1500));
const [stepsAfter, rowsAfter] = await counters();

const tokens = answers.reduce((sum, count) => sum + count, 0);
const steps = stepsAfter - stepsBefore;
console.log(
  `${answers.length} answers: ${tokens} tokens in ${seconds.toFixed(1)} s, ${Math.round(tokens / seconds)} a second`,
);
console.log(`${steps} steps of the nodes: ${((rowsAfter - rowsBefore) / steps).toFixed(1)} answers in each on average`);
