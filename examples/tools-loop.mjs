/** Gives the model tools, runs the calls that it asks for, and hands the results back until it answers in words. */
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
});

/** What each tool takes, and what it does. Results are text; quire-pico reads JSON with a blank after each colon. */
const TOOLS = {
  get_weather: {
    description: 'Get the weather in a city',
    properties: { city: { type: 'string' } },
    run: ({ city }) => `{"weather": "rainy", "temperature": ${city.length}}`,
  },
  add_numbers: {
    description: 'Add two numbers',
    properties: { a: { type: 'integer' }, b: { type: 'integer' } },
    run: ({ a, b }) => `{"sum": ${a + b}}`,
  },
};
const tools = Object.entries(TOOLS).map(([name, { description, properties }]) => {
  const parameters = { type: 'object', properties, required: Object.keys(properties) };
  return { type: 'function', function: { name, description, parameters } };
});

for (const question of ['What is the weather in Lisbon?', 'Add 300 and 516 with the tool.']) {
  console.log(`user       ${question}`);
  const messages = [{ role: 'user', content: question }];
  for (let turn = 0; turn < 4; turn++) {
    const completion = await client.chat.completions.create({ model: 'quire-pico', messages, tools, temperature: 0 });
    const { message } = completion.choices[0];
    messages.push(message);
    if (!message.tool_calls) {
      console.log(`assistant  ${message.content}`);
      break;
    }
    for (const { id, function: call } of message.tool_calls) {
      const content = TOOLS[call.name].run(JSON.parse(call.arguments));
      console.log(`assistant  ${call.name}(${call.arguments})\ntool       ${content}`);
      messages.push({ role: 'tool', tool_call_id: id, content });
    }
  }
}
