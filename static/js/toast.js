// Says something to everyone: toasts for the eye, the same live region for screen readers. Other modules dispatch a
// "toast" event on the document; a server says it by the header of core/toasts.py.

const SHOWN_MS = 6000;

// Kept here: a dialog that htmx replaces may take the region with it.
const region = document.getElementById("toasts");

// While a modal dialog is open all else is inert, the region too unless it lies inside.
function bringHome() {
  const home = document.querySelector("dialog[open]") ?? document.body;
  if (region.parentElement !== home) home.append(region);
}

// Without a tone only screen readers hear it: the page itself already shows what happened.
function announce(text, tone = "") {
  if (!region || !text) return;
  bringHome();
  const toast = document.createElement("div");
  toast.className = tone ? `banner tone-${tone}` : "sr-only";
  toast.textContent = text;
  region.append(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

document.addEventListener("close", () => region && bringHome(), true);
// A dialog that is taken away does not close: what was being said in it goes on outside.
document.addEventListener("htmx:afterSettle", () => region && !region.isConnected && bringHome());
document.addEventListener("toast", (event) => announce(event.detail.text, event.detail.tone ?? "info"));

for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, () => announce(document.body.dataset.textFailed, "error"));
}
