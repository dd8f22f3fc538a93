// Forms with data-upload show how much of the file has been sent.

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
