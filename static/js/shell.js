// Menus on the popover API: the browser opens, closes (Esc, click outside) and reports them; this places the panel
// under its button and lets the arrow keys walk through it.

const GAP = 6;
const EDGE = 8;

function place(panel, button) {
  const anchor = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = panel;
  const endsRight = getComputedStyle(button).direction === "ltr";
  const wanted = panel.dataset.menu === "start" ? !endsRight : endsRight;
  const left = wanted ? anchor.right - width : anchor.left;
  const below = anchor.bottom + GAP + height <= innerHeight - EDGE;
  panel.style.left = `${Math.max(EDGE, Math.min(left, innerWidth - width - EDGE))}px`;
  panel.style.top = `${Math.max(EDGE, below ? anchor.bottom + GAP : anchor.top - GAP - height)}px`;
}

function buttonOf(panel) {
  return document.querySelector(`[popovertarget="${CSS.escape(panel.id)}"]`);
}

document.addEventListener(
  "toggle",
  (event) => {
    const panel = event.target;
    if (!(panel instanceof HTMLElement) || !panel.matches("[popover][data-menu]")) return;
    const button = buttonOf(panel);
    button?.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open" && button) place(panel, button);
  },
  true, // toggle does not bubble
);

document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const panel = event.target.closest("[popover][data-menu]") ?? openPanelOf(event.target);
  if (!panel) return;
  const items = [...panel.querySelectorAll(".menu-item")];
  if (!items.length) return;
  event.preventDefault();
  const step = event.key === "ArrowDown" ? 1 : -1;
  const from = items.indexOf(document.activeElement);
  items[(from + step + items.length + (from < 0 && step < 0 ? 1 : 0)) % items.length].focus();
});

function openPanelOf(button) {
  const id = button.getAttribute?.("popovertarget");
  const panel = id && document.getElementById(id);
  return panel && panel.matches(":popover-open") ? panel : null;
}

// A panel is fixed in place: it follows its button, and goes when that leaves the window.
function follow(event) {
  if (event.target.closest?.("[data-menu]")) return;
  document.querySelectorAll("[popover][data-menu]:popover-open").forEach((panel) => {
    const anchor = buttonOf(panel)?.getBoundingClientRect();
    if (!anchor || anchor.bottom < 0 || anchor.top > innerHeight) panel.hidePopover();
    else place(panel, buttonOf(panel));
  });
}
addEventListener("resize", follow);
addEventListener("scroll", follow, { passive: true, capture: true });

// The drawer's links lead elsewhere; a page out of the back-forward cache must not come back with it open.
addEventListener("pagehide", () => document.querySelector("dialog.drawer-dialog[open]")?.close());

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest("[data-dismissable]")?.remove();
});

// A row of tabs wider than the screen starts at the one that is open.
document.querySelectorAll(".tabbar [aria-current]").forEach((tab) => {
  tab.scrollIntoView({ block: "nearest", inline: "center" });
});
