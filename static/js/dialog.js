// Modal dialogs: data-dialog-open="<id>" opens one, data-dialog-close or a click beside it closes it, Esc is native.
// A dialog with data-dialog-autoopen opens with the page, or when htmx brings it.

function open(dialog) {
  if (!(dialog instanceof HTMLDialogElement) || dialog.open) return;
  // The browser gives the focus back to what had it; an entry of a menu will be hidden then, its button will not.
  document.activeElement?.closest("[popover]")?.hidePopover();
  dialog.showModal();
}

function openWaiting(root) {
  if (root.matches?.("dialog[data-dialog-autoopen]")) open(root);
  root.querySelectorAll?.("dialog[data-dialog-autoopen]").forEach(open);
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog-open]");
  if (opener) {
    event.preventDefault();
    opener.closest("[popover]")?.hidePopover(); // where a click does not give the focus
    open(document.getElementById(opener.dataset.dialogOpen));
    return;
  }
  const dialog = event.target.closest("dialog");
  if (!dialog) return;
  if (event.target.closest("[data-dialog-close]")) dialog.close();
});

// Only a press that both starts and ends on the backdrop closes: selecting text and letting go outside must not.
document.addEventListener("pointerdown", (event) => {
  const dialog = event.target;
  if (!(dialog instanceof HTMLDialogElement) || dialog.hasAttribute("data-dialog-keep")) return;
  if (!onBackdrop(dialog, event)) return;
  dialog.addEventListener("click", (end) => onBackdrop(dialog, end) && dialog.close(), { once: true });
});

function onBackdrop(dialog, event) {
  const box = dialog.getBoundingClientRect();
  const inside =
    event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  return event.target === dialog && !inside;
}

document.addEventListener("htmx:afterSettle", (event) => openWaiting(event.target));
openWaiting(document);
