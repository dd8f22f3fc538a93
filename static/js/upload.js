// Forms with data-upload show how much of the file has been sent, and send none that is larger than data-most-bytes:
// the server would hang up in the middle, and a browser can't tell why.

function bar(event) {
  return event.target.closest?.("form[data-upload]")?.querySelector("[data-upload-progress]");
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const progress = bar(event);
  if (!progress) return;
  progress.value = 0;
  progress.hidden = false;
});

document.addEventListener("htmx:xhr:progress", (event) => {
  const progress = bar(event);
  if (progress && event.detail.lengthComputable) progress.value = (100 * event.detail.loaded) / event.detail.total;
});

document.addEventListener("htmx:afterRequest", (event) => {
  const progress = bar(event);
  if (progress) progress.hidden = true;
});

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("form[data-upload]");
  if (!form || event.target.type !== "file") return;
  const isTooLarge = [...event.target.files].some((file) => file.size > Number(form.dataset.mostBytes));
  event.target.setCustomValidity(isTooLarge ? form.dataset.textTooLarge : "");
  if (isTooLarge) event.target.reportValidity();
});
