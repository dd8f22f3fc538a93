// The playground: asks the gateway as a program would, with a key that lives in this page's memory alone.

import { codeOf } from "./playground-code.js";
import { callOf, eventsOf, textOf } from "./playground-wire.js";

const root = document.getElementById("playground");
const config = JSON.parse(document.getElementById("playground-config").textContent);
const output = document.getElementById("playground-output");
const statusLine = document.getElementById("playground-status");
const costLine = document.getElementById("playground-cost");
const forms = [...root.querySelectorAll("form[data-way]")];
const texts = config.texts;

const QUOTE_AFTER_MS = 500;
const POLL_MS = 1500;
const POLL_FAILURES = 8;
const RECEIPT_TRIES = 20;
const RECEIPT_AFTER_MS = 400;

let key = null;
let turns = [];
let running = null;

const say = (text, values = {}) => text.replaceAll(/\{(\w+)\}/g, (_all, name) => values[name] ?? "");
const later = (ms) => new Promise((done) => setTimeout(done, ms));

class Refused extends Error {}

// ── The key, and calls with it ──────────────────────────────────────────────────────────────────────────────────────
async function newKey() {
  const answer = await fetch(config.keyUrl, { method: "POST", headers: { "X-CSRFToken": root.dataset.csrf } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.message ?? body.error?.message ?? answer.statusText);
  return body.key;
}

// A key that ended meanwhile is replaced once.
async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (let again = false; ; again = true) {
    key ??= newKey();
    let secret;
    try {
      secret = await key;
    } catch (error) {
      key = null;
      throw error;
    }
    const answer = await fetch(path, {
      method,
      signal,
      headers: { Authorization: `Bearer ${secret}`, ...headers, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    if (answer.status !== 401 || again) return answer;
    key = null;
  }
}

// What may pass: a line that is down for a moment, a server that starts anew, too many questions.
const mayPass = (error) => error instanceof TypeError || error.status === 429 || error.status >= 500;

async function good(answer) {
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw Object.assign(new Refused(body.error?.message ?? answer.statusText), { status: answer.status });
}

// ── The form ────────────────────────────────────────────────────────────────────────────────────────────────────────
const modelOf = (form) => config.models[form.dataset.way].find((model) => model.id === form.elements.model.value);

function extraOf(form) {
  const text = form.elements.extra.value.trim();
  if (!text) return {};
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Said below.
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Refused(texts.badExtra);
  return value;
}

function askedBy(form) {
  const fields = form.elements;
  const way = form.dataset.way;
  const prompt = fields.prompt.value;
  const asked = { way, model: fields.model.value, prompt, extra: extraOf(form) };
  if (way === "chat") {
    const said = prompt.trim() ? [...turns, { role: "user", text: prompt }] : turns;
    return { ...asked, format: fields.format.value, system: fields.system.value.trim(), tokens: Number(fields.tokens.value) || 512, turns: said };
  }
  const values = Object.fromEntries(["size", "aspect_ratio", "resolution", "voice"].map((name) => [name, fields[name]?.value]));
  return { ...asked, ...values, n: Number(fields.n?.value) || 1, duration: Number(fields.duration?.value) || 0 };
}

// Each model has choices of its own.
function offerChoices(form) {
  const model = modelOf(form);
  if (!model) return;
  if (form.elements.format) {
    for (const option of form.elements.format.options) option.hidden = option.disabled = !model.formats.includes(option.value);
    if (!model.formats.includes(form.elements.format.value)) form.elements.format.value = model.formats[0];
  }
  if (form.elements.n) form.elements.n.max = String(model.mostImages);
  for (const field of form.querySelectorAll("[data-choice]")) {
    const values = model[field.dataset.choice];
    const select = field.querySelector("select");
    const before = select.value;
    select.replaceChildren(new Option("–", ""), ...values.map((value) => new Option(String(value), String(value))));
    select.value = values.map(String).includes(before) ? before : "";
    field.hidden = values.length === 0;
  }
}

const active = () => forms.find((form) => !form.closest('[role="tabpanel"]').hidden) ?? forms[0];

function showCode(form) {
  let code;
  try {
    code = codeOf(config.siteUrl, form.dataset.way, callOf(askedBy(form)));
  } catch {
    return; // The parameters are no JSON yet.
  }
  for (const [language, text] of Object.entries(code)) {
    document.querySelector(`#playground-${language} code`).textContent = text;
  }
}

let quoteTimer = 0;
let quoteNumber = 0;

function quoteSoon(form) {
  clearTimeout(quoteTimer);
  const number = ++quoteNumber;
  if (!form.elements.prompt.value.trim()) {
    form.querySelector("[data-quote]").textContent = "";
    return;
  }
  quoteTimer = setTimeout(async () => {
    const text = await quoteOf(form).catch((error) => (error instanceof Refused ? error.message : texts.offline));
    if (number === quoteNumber) form.querySelector("[data-quote]").textContent = text;
  }, QUOTE_AFTER_MS);
}

async function quoteOf(form) {
  const { path, body } = callOf(askedBy(form));
  const answer = await good(await send("/api/v1/quote", { method: "POST", body: { endpoint: path.replace(/^\/api/, ""), body } }));
  const { likely_credits: likely, reservation_credits: reserved } = await answer.json();
  return say(likely === reserved ? texts.exactly : texts.likely, { likely, reserved });
}

// ── The answer ──────────────────────────────────────────────────────────────────────────────────────────────────────
function bubble(role, text) {
  output.querySelector("[data-empty]")?.remove();
  const element = document.createElement("div");
  element.className = role === "user" ? "muted text-sm whitespace-pre-wrap break-words" : "whitespace-pre-wrap break-words";
  element.dataset.role = role;
  element.dir = "auto";
  element.textContent = text;
  output.append(element);
  return element;
}

// Addresses of stored files name the site; the page may go by another name.
function local(url) {
  const parsed = new URL(url, location.href);
  return parsed.pathname.startsWith("/files/") ? parsed.pathname + parsed.search : url;
}

function show(kind, url, name) {
  output.querySelector("[data-empty]")?.remove();
  const media = document.createElement(kind);
  if (kind === "img") {
    media.alt = name;
    media.className = "max-w-full rounded-md border border-base-300";
  } else {
    media.controls = true;
    media.className = "w-full rounded-md";
    media.setAttribute("aria-label", name);
  }
  media.src = local(url);
  output.append(media);
}

async function chat(asked, signal, note) {
  const call = callOf(asked, { stream: true });
  const answer = await good(await send(call.path, { method: "POST", body: call.body, headers: call.headers, signal }));
  note(answer.headers.get("x-request-id"));
  bubble("user", `${texts.you}: ${asked.prompt}`);
  const element = bubble("assistant", "");
  let text = "";
  try {
    for await (const event of eventsOf(answer)) {
      text += textOf(asked.format, event);
      element.textContent = text;
    }
  } finally {
    if (text) turns = [...asked.turns, { role: "assistant", text }];
  }
  if (!text) element.textContent = texts.noText;
}

async function image(asked, signal, note) {
  const call = callOf(asked);
  const answer = await good(await send(call.path, { method: "POST", body: call.body, signal }));
  note(answer.headers.get("x-request-id"));
  const { data } = await answer.json();
  for (const item of data) show("img", item.url ?? `data:image/png;base64,${item.b64_json}`, asked.prompt);
}

async function speech(asked, signal, note) {
  const call = callOf(asked);
  const answer = await good(await send(call.path, { method: "POST", body: call.body, signal }));
  note(answer.headers.get("x-request-id"));
  show("audio", URL.createObjectURL(await answer.blob()), asked.prompt);
}

async function video(asked, signal, note) {
  const call = callOf(asked);
  const answer = await good(await send(call.path, { method: "POST", body: call.body, signal }));
  const { jobId, pollUrl } = await answer.json();
  note(jobId);
  signal.addEventListener("abort", () => send(`${pollUrl}/cancel`, { method: "POST", body: {} }).catch(() => {}));
  for (let failures = 0; ; ) {
    let job;
    try {
      job = await (await good(await send(pollUrl, { signal }))).json();
      failures = 0;
    } catch (error) {
      failures += 1; // The job goes on without us.
      if (!mayPass(error) || failures > POLL_FAILURES) throw error;
      await later(POLL_MS);
      signal.throwIfAborted();
      continue;
    }
    if (job.status === "succeeded") {
      for (const item of [job.outputUrl, ...(job.data ?? []).map((each) => each.url)].filter(Boolean).slice(0, 4)) {
        show("video", item, asked.prompt);
      }
      return;
    }
    if (job.status === "cancelled") throw new Refused(texts.cancelled);
    if (!["queued", "running"].includes(job.status)) throw new Refused(job.error?.message ?? job.status);
    statusLine.textContent = job.status === "queued" ? texts.queued : say(texts.running, { progress: Math.round(job.progress ?? 0) });
    await later(POLL_MS);
    signal.throwIfAborted();
  }
}

// A job outlives this page: what becomes of it, and what it costs, stands on a page of its own.
function sayOfJob(text, jobId) {
  const link = Object.assign(document.createElement("a"), { href: `/jobs/${jobId}`, textContent: texts.job });
  link.className = "link-plain";
  statusLine.replaceChildren(`${text} `, link);
}

const WAYS = { chat, image, video, speech };

// What it cost is known when the call is settled, a moment behind its end.
async function showReceipt(requestId) {
  if (!requestId) return;
  costLine.textContent = texts.settling;
  for (let tries = 0; tries < RECEIPT_TRIES; tries += 1) {
    const answer = await send(`/api/v1/receipts/${requestId}`);
    if (answer.ok) {
      const receipt = await answer.json();
      const link = Object.assign(document.createElement("a"), { href: `/usage/${requestId}`, textContent: texts.receipt });
      link.className = "link-plain";
      const parts = [say(texts.charged, { charged: receipt.charged_credits })];
      if (receipt.released_credits) parts.push(say(texts.released, { released: receipt.released_credits }));
      if (receipt.sandbox) parts.push(texts.sandbox);
      costLine.replaceChildren(`${parts.join(" · ")} · `, link);
      await showBalance();
      return;
    }
    await later(RECEIPT_AFTER_MS);
  }
  costLine.textContent = "";
}

async function showBalance() {
  const page = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), "text/html");
  const fresh = page.getElementById("balance-pill");
  if (fresh) document.getElementById("balance-pill")?.replaceWith(document.adoptNode(fresh));
}

function busy(form, yes) {
  output.setAttribute("aria-busy", String(yes));
  form.querySelector("[data-stop]").hidden = !yes;
  const button = form.querySelector("[data-send]");
  if (yes) button.setAttribute("aria-busy", "true");
  else button.removeAttribute("aria-busy");
  button.disabled = yes;
}

async function run(form) {
  if (running) return;
  running = new AbortController();
  busy(form, true);
  statusLine.textContent = texts.working;
  costLine.textContent = "";
  let requestId = null;
  try {
    const asked = askedBy(form);
    if (asked.way !== "chat") output.replaceChildren();
    await WAYS[asked.way](asked, running.signal, (id) => (requestId = id));
    statusLine.textContent = "";
    if (asked.way === "chat") form.elements.prompt.value = "";
    quoteSoon(form);
  } catch (error) {
    const stopped = error.name === "AbortError";
    const message = error instanceof TypeError ? texts.offline : error.message;
    const text = stopped ? texts.stopped : say(texts.failed, { message });
    if (form.dataset.way === "video" && requestId) sayOfJob(stopped ? texts.stopping : text, requestId);
    else statusLine.textContent = text;
  } finally {
    running = null;
    busy(form, false);
  }
  await showReceipt(requestId).catch(() => (costLine.textContent = ""));
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────
for (const form of forms) {
  offerChoices(form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form);
  });
  form.addEventListener("input", () => {
    showCode(form);
    quoteSoon(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.elements.model.addEventListener("change", () => {
    offerChoices(form);
    showCode(form);
  });
  form.querySelector("[data-stop]").addEventListener("click", () => running?.abort());
  form.querySelector("[data-forget]")?.addEventListener("click", () => {
    turns = [];
    output.replaceChildren();
    statusLine.textContent = costLine.textContent = "";
  });
}
root.querySelector('[role="tablist"]').addEventListener("click", () => showCode(active()));
showCode(active());
