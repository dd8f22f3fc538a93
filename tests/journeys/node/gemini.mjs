// One conversation of Google's library for Node with the gateway: `node gemini.mjs VERB MODEL`, with BASE_URL and API_KEY
// in the environment. Prints what came of it as JSON; a failure is an answer, too.
import { ApiError, GoogleGenAI } from "@google/genai";

const [verb, model] = process.argv.slice(2);
const { models } = new GoogleGenAI({ apiKey: process.env.API_KEY, httpOptions: { baseUrl: process.env.BASE_URL } });
const asked = { model, contents: "Say hello" };
const city = { type: "object", properties: { city: { type: "string" } } };

const verbs = {
  async turn() {
    const { text, usageMetadata } = await models.generateContent(asked);
    return { text, usage: usageMetadata };
  },

  async stream() {
    let text = "";
    let usage = null;
    for await (const chunk of await models.generateContentStream(asked)) {
      text += chunk.text ?? "";
      usage = chunk.usageMetadata ?? usage;
    }
    return { text, usage };
  },

  async tool() {
    const tools = [{ functionDeclarations: [{ name: "weather", parametersJsonSchema: city }] }];
    const { functionCalls } = await models.generateContent({ ...asked, config: { tools } });
    return { call: functionCalls[0] };
  },
};

function told(error) {
  if (!(error instanceof ApiError)) throw error;
  return { failed: error.constructor.name, status: error.status, message: error.message };
}

console.log(JSON.stringify(await verbs[verb]().catch(told)));
