// One conversation of Anthropic's library for Node with the gateway: `node messages.mjs VERB MODEL`, with BASE_URL and
// API_KEY in the environment. Prints what came of it as JSON; a failure is an answer, too.
import Anthropic from "@anthropic-ai/sdk";

const [verb, model] = process.argv.slice(2);
const client = new Anthropic({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: Number(process.env.MAX_RETRIES ?? 0),
  timeout: 20_000,
});
const asked = { model, max_tokens: 100, messages: [{ role: "user", content: "Say hello" }] };

const verbs = {
  async turn() {
    const message = await client.messages.create(asked);
    const { content, usage, hypereal, _request_id: requestId } = message;
    return { text: content[0].text, usage, hypereal, requestId };
  },

  async stream() {
    const stream = client.messages.stream(asked);
    let pieces = 0;
    stream.on("text", () => (pieces += 1));
    const { content, usage } = await stream.finalMessage();
    return { text: content[0].text, usage, pieces };
  },

  async tool() {
    const tools = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
    const { content, stop_reason: stopped } = await client.messages.stream({ ...asked, tools }).finalMessage();
    return { stopped, call: content.find((block) => block.type === "tool_use") };
  },

  async count() {
    return await client.messages.countTokens({ model, messages: asked.messages });
  },
};

function told(error) {
  if (!(error instanceof Anthropic.APIError)) throw error;
  const { status, type, message, requestID } = error;
  return { failed: error.constructor.name, status, type, message, requestId: requestID };
}

console.log(JSON.stringify(await verbs[verb]().catch(told)));
