// One conversation of the official OpenAI library with the gateway: `node turns.mjs VERB [ARGUMENT]`, with BASE_URL and
// API_KEY in the environment. Prints what came of it as JSON; a failure is an answer, too.
import OpenAI from "openai";

const [verb, argument] = process.argv.slice(2);
const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: Number(process.env.MAX_RETRIES ?? 0),
  timeout: 20_000,
});
const asked = { model: argument, messages: [{ role: "user", content: "Say hello" }] };

const verbs = {
  async turn() {
    const { data, response } = await client.chat.completions.create(asked).withResponse();
    return { text: data.choices[0].message.content, usage: data.usage, requestId: response.headers.get("x-request-id") };
  },

  // The loop that most programs have: it takes the first choice of every chunk.
  async stream() {
    let text = "";
    let usage = null;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { text, usage };
  },

  async streamWithUsage() {
    let text = "";
    const usages = [];
    const stream_options = { include_usage: true };
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options })) {
      text += chunk.choices[0]?.delta.content ?? "";
      if (chunk.usage) usages.push({ ...chunk.usage, choices: chunk.choices.length });
    }
    return { text, usages };
  },

  async runner() {
    const runner = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
    return { text: await runner.finalContent(), usage: await runner.totalUsage() };
  },

  async leave() {
    const stream = await client.chat.completions.create({ ...asked, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break; // the library hangs up
    }
    return { left: true };
  },

  async models() {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    return { found };
  },

  async model() {
    return await client.models.retrieve(argument);
  },
};

function told(error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const { status, code, type, param, message } = error;
  return { failed: error.constructor.name, status, code, type, param, message, requestId: error.requestID };
}

console.log(JSON.stringify(await verbs[verb]().catch(told)));
