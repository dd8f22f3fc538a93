// How each way to try something is asked for and how its answer is read. No document in here.

const BASE = "/api/v1";

const messagesOf = (turns, system) => [
  ...(system ? [{ role: "system", content: system }] : []),
  ...turns.map(({ role, text }) => ({ role, content: text })),
];

// The wire formats of a conversation: where it goes, its body, and the text in one event of a stream.
const FORMATS = {
  chat: {
    path: () => `${BASE}/chat/completions`,
    body: (asked) => ({
      model: asked.model,
      messages: messagesOf(asked.turns, asked.system),
      max_completion_tokens: asked.tokens,
    }),
    text: (event) => event.choices?.[0]?.delta?.content,
  },
  messages: {
    path: () => `${BASE}/messages`,
    headers: { "anthropic-version": "2023-06-01" },
    body: (asked) => ({
      model: asked.model,
      ...(asked.system ? { system: asked.system } : {}),
      messages: messagesOf(asked.turns),
      max_tokens: asked.tokens,
    }),
    text: (event) => (event.type === "content_block_delta" ? event.delta?.text : undefined),
  },
  responses: {
    path: () => `${BASE}/responses`,
    body: (asked) => ({
      model: asked.model,
      ...(asked.system ? { instructions: asked.system } : {}),
      input: messagesOf(asked.turns),
      max_output_tokens: asked.tokens,
    }),
    text: (event) => (event.type === "response.output_text.delta" ? event.delta : undefined),
  },
  gemini: {
    path: (asked, stream) =>
      `${BASE}/gemini/v1beta/models/${asked.model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
    body: (asked) => ({
      ...(asked.system ? { systemInstruction: { parts: [{ text: asked.system }] } } : {}),
      contents: asked.turns.map(({ role, text }) => ({
        role: role === "assistant" ? "model" : "user",
        parts: [{ text }],
      })),
      generationConfig: { maxOutputTokens: asked.tokens },
    }),
    text: (event) =>
      event.candidates?.[0]?.content?.parts
        ?.filter((part) => !part.thought)
        .map((part) => part.text ?? "")
        .join(""),
    inPath: true,
  },
};

const PATHS = {
  image: `${BASE}/images/generations`,
  video: `${BASE}/videos/generate`,
  speech: `${BASE}/audio/speech`,
};

// What was chosen; fields left at "as the model does" are not sent.
const chosen = (asked, names) => Object.fromEntries(names.filter((name) => asked[name]).map((name) => [name, asked[name]]));

const BODIES = {
  image: (asked) => ({
    model: asked.model,
    prompt: asked.prompt,
    n: asked.n,
    ...chosen(asked, ["size", "aspect_ratio", "resolution"]),
  }),
  video: (asked) => ({
    model: asked.model,
    prompt: asked.prompt,
    ...chosen(asked, ["duration", "aspect_ratio", "resolution"]),
  }),
  speech: (asked) => ({ model: asked.model, input: asked.prompt, voice: asked.voice, response_format: "mp3" }),
};

// One call as { path, body, headers }. A stream is asked for where the caller wants one.
export function callOf(asked, { stream = false } = {}) {
  if (asked.way !== "chat") return { path: PATHS[asked.way], body: { ...BODIES[asked.way](asked), ...asked.extra }, headers: {} };
  const format = FORMATS[asked.format];
  const flag = stream && !format.inPath ? { stream: true } : {};
  return {
    path: format.path(asked, stream),
    body: { ...format.body(asked), ...flag, ...asked.extra },
    headers: format.headers ?? {},
  };
}

// The text in one event of a stream. Throws the error that an event carries.
export function textOf(format, event) {
  const error = event.error ?? event.response?.error;
  if (error) throw new Error(error.message ?? "");
  return FORMATS[format].text(event) ?? "";
}

// The JSON events of an event stream, as they come.
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
