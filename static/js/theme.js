// Runs before the first paint, as a plain blocking script: a chosen theme must never flash in after the other one.
// Without a choice nothing is set, and the style sheet follows the system's own preference.
(function () {
  const root = document.documentElement;
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage may be shut off; the system's preference then stands
    }
  }

  function inForce() {
    return root.dataset.theme || (systemIsDark.matches ? "dark" : "light");
  }

  function announce() {
    document.querySelectorAll("[data-theme-toggle]").forEach((button) => {
      button.setAttribute("aria-checked", String(inForce() === "dark"));
    });
    document.dispatchEvent(new CustomEvent("themechange", { detail: inForce() }));
  }

  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  systemIsDark.addEventListener("change", announce);
  document.addEventListener("DOMContentLoaded", announce);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    root.dataset.theme = inForce() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // The choice then lasts for this page only.
    }
    announce();
  });
})();
