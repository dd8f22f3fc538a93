// Tabs: a [role=tablist] of buttons with aria-controls. Arrow keys move, Home and End jump. data-tabs-remember keeps
// the choice for the next visit. Without this script every panel stays visible.

function panelOf(tab) {
  return document.getElementById(tab.getAttribute("aria-controls"));
}

function select(tab, focus = false) {
  const list = tab.closest('[role="tablist"]');
  for (const other of list.querySelectorAll('[role="tab"]')) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    panelOf(other)?.toggleAttribute("hidden", !chosen);
  }
  if (focus) tab.focus();
  if (list.dataset.tabsRemember) {
    try {
      localStorage.setItem(`tab:${list.dataset.tabsRemember}`, tab.id);
    } catch {
      // Not remembered, then.
    }
  }
}

function start(list) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  let remembered = null;
  try {
    remembered = localStorage.getItem(`tab:${list.dataset.tabsRemember}`);
  } catch {
    remembered = null;
  }
  const first = tabs.find((tab) => tab.id === remembered) ?? tabs.find((tab) => tab.ariaSelected === "true") ?? tabs[0];
  if (first) select(first);
}

const MOVES = { ArrowLeft: -1, ArrowRight: 1 };

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (!tab) return;
  const list = tab.closest('[role="tablist"]');
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const sign = getComputedStyle(list).direction === "rtl" ? -1 : 1;
  const at = tabs.indexOf(tab);
  const next =
    event.key in MOVES
      ? tabs[(at + MOVES[event.key] * sign + tabs.length) % tabs.length]
      : { Home: tabs[0], End: tabs.at(-1) }[event.key];
  if (!next) return;
  event.preventDefault();
  select(next, true);
});

document.addEventListener("click", (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (tab) select(tab);
});

document.querySelectorAll('[role="tablist"]').forEach(start);
document.addEventListener("htmx:afterSettle", (event) => {
  event.target.querySelectorAll?.('[role="tablist"]').forEach(start);
});
