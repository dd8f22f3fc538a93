// One turn of a vendor's library for Node with the gateway: `node turns.mjs ENDPOINT KIND`, with ORIGIN, API_KEY, MODEL,
// QUESTION and TOOL in the environment. Prints what came of it as JSON.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const [endpoint, kind] = process.argv.slice(2);
const { ORIGIN, API_KEY, MODEL: model, QUESTION, TOOL: name } = process.env;
const description = "The weather of a city.";
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = ({ city }) => `Sunny in ${city}`;
const told = (text, ran = "") => console.log(JSON.stringify({ text, ran }));

async function gathered(stream, textOf) {
  const pieces = [];
  for await (const part of stream) pieces.push(textOf(part) ?? "");
  console.log(JSON.stringify({ pieces }));
}

function theOnly(calls) {
  if (calls?.length !== 1) throw new Error("the model did not call the tool");
  return calls[0];
}

const openai = () => new OpenAI({ apiKey: API_KEY, baseURL: `${ORIGIN}/api/v1`, maxRetries: 0 });

const endpoints = {
  async chat() {
    const completions = openai().chat.completions;
    const messages = [{ role: "user", content: QUESTION }];
    if (kind === "stream") {
      const stream = await completions.create({ model, messages, stream: true });
      return gathered(stream, (chunk) => chunk.choices[0].delta.content);
    }
    if (kind === "plain") return told((await completions.create({ model, messages })).choices[0].message.content);
    const tools = [{ type: "function", function: { name, description, parameters: schema } }];
    const { message } = (await completions.create({ model, messages, tools })).choices[0];
    const call = theOnly(message.tool_calls);
    const ran = weather(JSON.parse(call.function.arguments));
    messages.push(message, { role: "tool", tool_call_id: call.id, content: ran });
    told((await completions.create({ model, messages, tools })).choices[0].message.content, ran);
  },

  async responses() {
    const { responses } = openai();
    const input = [{ role: "user", content: QUESTION }];
    if (kind === "stream") {
      const stream = await responses.create({ model, input, stream: true });
      return gathered(stream, (event) => (event.type === "response.output_text.delta" ? event.delta : ""));
    }
    if (kind === "plain") return told((await responses.create({ model, input })).output_text);
    const tools = [{ type: "function", name, description, parameters: schema, strict: false }];
    const { output } = await responses.create({ model, input, tools });
    const call = theOnly(output.filter((item) => item.type === "function_call"));
    const ran = weather(JSON.parse(call.arguments));
    input.push(...output, { type: "function_call_output", call_id: call.call_id, output: ran });
    told((await responses.create({ model, input, tools })).output_text, ran);
  },

  async messages() {
    const client = new Anthropic({ apiKey: API_KEY, baseURL: `${ORIGIN}/api`, maxRetries: 0 });
    const textOf = ({ content }) => content.map((block) => block.text ?? "").join("");
    const asked = { model, max_tokens: 2000, messages: [{ role: "user", content: QUESTION }] };
    if (kind === "stream") {
      return gathered(client.messages.stream(asked), (event) => event.delta?.text);
    }
    if (kind === "plain") return told(textOf(await client.messages.create(asked)));
    asked.tools = [{ name, description, input_schema: schema }];
    const { content } = await client.messages.create(asked);
    const call = theOnly(content.filter((block) => block.type === "tool_use"));
    const ran = weather(call.input);
    const result = { type: "tool_result", tool_use_id: call.id, content: ran };
    asked.messages.push({ role: "assistant", content }, { role: "user", content: [result] });
    told(textOf(await client.messages.create(asked)), ran);
  },

  async gemini() {
    const { models } = new GoogleGenAI({ apiKey: API_KEY, httpOptions: { baseUrl: `${ORIGIN}/api/v1/gemini` } });
    const contents = [{ role: "user", parts: [{ text: QUESTION }] }];
    if (kind === "stream") {
      return gathered(await models.generateContentStream({ model, contents }), (chunk) => chunk.text);
    }
    if (kind === "plain") return told((await models.generateContent({ model, contents })).text);
    const config = { tools: [{ functionDeclarations: [{ name, description, parametersJsonSchema: schema }] }] };
    const answer = await models.generateContent({ model, contents, config });
    const call = theOnly(answer.functionCalls);
    const ran = weather(call.args);
    const functionResponse = { id: call.id, name, response: { result: ran } };
    contents.push(answer.candidates[0].content, { role: "user", parts: [{ functionResponse }] });
    told((await models.generateContent({ model, contents, config })).text, ran);
  },
};

await endpoints[endpoint]();
