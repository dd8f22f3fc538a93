// Copy buttons: data-copy holds the text, or data-copy-target selects the element whose text is taken.

const SHOWN_MS = 2000;

function textFor(button) {
  const target = button.dataset.copyTarget && document.querySelector(button.dataset.copyTarget);
  return target ? (target.value ?? target.textContent) : button.dataset.copy;
}

// Pages served without TLS have no clipboard interface; the old command still works there.
function copyByCommand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "sr-only";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByCommand(text);
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const done = await copy(textFor(button));
  const detail = done ? { text: button.dataset.copied, tone: "" } : { text: button.dataset.copyFailed, tone: "error" };
  document.dispatchEvent(new CustomEvent("toast", { detail }));
  if (!done) return;
  const label = button.querySelector("[data-copy-label]");
  const before = button.dataset.copyBefore ?? label?.textContent;
  if (label) {
    button.dataset.copyBefore = before;
    label.textContent = button.dataset.copied;
  }
  button.dataset.state = "done";
  clearTimeout(Number(button.dataset.copyTimer));
  button.dataset.copyTimer = setTimeout(() => {
    delete button.dataset.state;
    if (label) label.textContent = before;
  }, SHOWN_MS);
});
