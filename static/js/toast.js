// Says something to everyone: toasts for the eye, the same live region for screen readers. Other modules dispatch a
// "toast" event on the document; a server sends the header HX-Trigger: {"toast": {"text": "...", "tone": "success"}}.

const SHOWN_MS = 6000;

// Without a tone only screen readers hear it: the page itself already shows what happened.
function announce(text, tone = "") {
  const region = document.getElementById("toasts");
  if (!region || !text) return;
  const toast = document.createElement("div");
  toast.className = tone ? `banner tone-${tone}` : "sr-only";
  toast.textContent = text;
  region.append(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

document.addEventListener("toast", (event) => announce(event.detail.text, event.detail.tone ?? "info"));

for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, () => announce(document.body.dataset.textFailed, "error"));
}
