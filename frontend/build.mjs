// Builds what the pages load into static/ and core/templatetags/icons.json. Everything it writes is committed, so a
// running product never needs Node; the same inputs always give the same bytes.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runInNewContext } from "node:vm";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const at = (...parts) => join(root, ...parts);
const modules = (...parts) => at("node_modules", ...parts);

const FONTS = [
  ["inter", "inter-latin-wght-normal", "inter.woff2"],
  ["inter", "inter-latin-ext-wght-normal", "inter-ext.woff2"],
  ["jetbrains-mono", "jetbrains-mono-latin-wght-normal", "jetbrains-mono.woff2"],
  ["vazirmatn", "vazirmatn-arabic-wght-normal", "vazirmatn.woff2"],
];

function copyFonts() {
  mkdirSync(at("static/fonts"), { recursive: true });
  for (const [family, file, name] of FONTS) {
    copyFileSync(modules("@fontsource-variable", family, "files", `${file}.woff2`), at("static/fonts", name));
    copyFileSync(modules("@fontsource-variable", family, "LICENSE"), at("static/fonts", `${family}.LICENSE.txt`));
  }
}

function copyCharts() {
  mkdirSync(at("static/vendor"), { recursive: true });
  copyFileSync(modules("plotly.js-basic-dist-min/plotly-basic.min.js"), at("static/vendor/plotly-basic.min.js"));
  copyFileSync(modules("plotly.js-basic-dist-min/LICENSE"), at("static/vendor/plotly.LICENSE.txt"));
}

// The library adds its own style rules to the page when it starts, which a strict policy forbids. It leaves that out
// where a sheet with id "plotly.js-style-global" and class "no-inline-styles" stands, so its rules go into one.
function extractChartStyles() {
  const source = readFileSync(at("static/vendor/plotly-basic.min.js"), "utf8");
  const start = source.indexOf('{"X,X div":');
  const end = source.indexOf("};for(", start) + 1;
  if (start < 0 || end <= start) throw new Error("the chart library no longer carries its style rules where they were");
  const rules = Object.entries(runInNewContext(`(${source.slice(start, end)})`));
  // The library inserts each rule before the last one, hence the reversed order.
  const sheet = rules.reverse().map(([selector, body]) => {
    const full = selector.replace(/^,/, " ,").replace(/X/g, ".js-plotly-plot .plotly").replace(/Y/g, ".plotly-notifier");
    return `${full}{${body}}`;
  });
  mkdirSync(at("static/dist"), { recursive: true });
  writeFileSync(at("static/dist/plotly.css"), `${sheet.join("\n")}\n`);
}

// Only the shapes inside each <svg> are kept; the icon tag writes the outer element.
function collectIcons() {
  const names = readFileSync(at("frontend/icons.txt"), "utf8").split("\n").filter(Boolean);
  const icons = {};
  for (const name of [...new Set(names)].sort()) {
    const svg = readFileSync(modules("lucide-static/icons", `${name}.svg`), "utf8");
    const inner = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>"));
    icons[name] = inner.replace(/\s*\n\s*/g, "").replace(/ \/>/g, "/>");
  }
  writeFileSync(at("core/templatetags/icons.json"), `${JSON.stringify(icons, null, 1)}\n`);
  copyFileSync(modules("lucide-static/LICENSE"), at("static/img/lucide.LICENSE.txt"));
}

function buildStyles(target) {
  mkdirSync(dirname(target), { recursive: true });
  const args = ["-i", at("frontend/app.css"), "-o", target, "--minify"];
  execFileSync(modules(".bin/tailwindcss"), args, { cwd: root, stdio: "inherit" });
}

// The accessibility checker of the browser tests; no page loads it.
function copyChecker() {
  mkdirSync(at("tests/look/vendor"), { recursive: true });
  copyFileSync(modules("axe-core/axe.min.js"), at("tests/look/vendor/axe.min.js"));
  copyFileSync(modules("axe-core/LICENSE"), at("tests/look/vendor/axe.LICENSE.txt"));
}

const only = process.argv.indexOf("--styles-to");
if (only > 0) {
  buildStyles(process.argv[only + 1]);
} else {
  copyFonts();
  copyCharts();
  copyChecker();
  extractChartStyles();
  collectIcons();
  buildStyles(at("static/dist/app.css"));
}
