// A form that is under way takes no second click: its button shows a spinner until the answer is there.
// data-submit-repeat on a form leaves it out (downloads keep the page where it is).

function busy(button, yes) {
  if (yes) {
    button.style.setProperty("--btn-fg", getComputedStyle(button).color);
    button.setAttribute("aria-busy", "true");
    button.setAttribute("aria-disabled", "true");
    return;
  }
  button.removeAttribute("aria-busy");
  button.removeAttribute("aria-disabled");
}

function release(form) {
  delete form.dataset.submitting;
  for (const button of form.ownerDocument.querySelectorAll('[aria-busy="true"]')) {
    if (button.form === form || form.contains(button)) busy(button, false);
  }
}

function hold(form, button) {
  form.dataset.submitting = "";
  if (button) busy(button, true);
}

// On the way down, before any other listener: a second submit must not reach htmx either.
document.addEventListener(
  "submit",
  (event) => {
    if (event.target.dataset.submitting === undefined) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  true,
);

document.addEventListener("submit", (event) => {
  const form = event.target;
  const method = event.submitter?.getAttribute("formmethod") ?? form.getAttribute("method");
  const stays = method === "dialog" || form.target === "_blank" || form.hasAttribute("data-submit-repeat");
  if (!event.defaultPrevented && !stays) hold(form, event.submitter);
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const form = event.target;
  if (form instanceof HTMLFormElement) hold(form, event.detail.requestConfig.triggeringEvent?.submitter);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target instanceof HTMLFormElement) release(event.target);
});

// The back button may bring the page back as it was left, spinner and all.
addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-submitting]").forEach(release);
});
