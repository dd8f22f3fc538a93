// Draws every [data-chart="<id>"] from the JSON figure in the script element of that id (what Python's
// figure.to_plotly_json() gives). Colours come from the style sheet, so that a figure needs none and follows the theme.
// A trace or pie label whose name is in meta.rest gets the quiet colour for "everything else".

const PALETTE = 8;
const CONFIG = { displayModeBar: false, responsive: true, showTips: false };

// Canvas turns any colour notation, light-dark() included once computed, into one that the chart library reads.
const probe = document.createElement("span");
probe.hidden = true;

function colour(name) {
  probe.style.color = `var(${name})`;
  return toRgb(getComputedStyle(probe).color);
}

function toRgb(text) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return `rgb(${red},${green},${blue})`;
}

function inks() {
  document.body.append(probe);
  const found = {
    text: colour("--color-base-content"),
    muted: colour("--ink-muted"),
    line: colour("--color-base-300"),
    surface: colour("--color-base-100"),
    rest: colour("--chart-rest"),
    series: Array.from({ length: PALETTE }, (_, index) => colour(`--chart-${index + 1}`)),
    font: getComputedStyle(document.body).fontFamily,
  };
  probe.remove();
  return found;
}

function paintTrace(trace, index, ink, rest) {
  if (trace.type === "pie") {
    const colours = (trace.labels ?? []).map((label, at) => (rest.has(label) ? ink.rest : ink.series[at % PALETTE]));
    trace.marker = { ...trace.marker, colors: colours, line: { color: ink.surface, width: 2 } };
    return;
  }
  const own = rest.has(trace.name) ? ink.rest : ink.series[index % PALETTE];
  trace.marker = { ...trace.marker, color: own };
  if (trace.mode?.includes("lines")) trace.line = { ...trace.line, color: own };
}

function paintAxis(axis, ink) {
  return {
    gridcolor: ink.line,
    zeroline: false,
    showline: false,
    ticks: "",
    ...axis,
    tickfont: { color: ink.muted, size: 12, ...axis?.tickfont },
  };
}

function dressed(figure) {
  const ink = inks();
  const { data, layout = {} } = structuredClone(figure);
  const rest = new Set(layout.meta?.rest ?? []);
  data.forEach((trace, index) => paintTrace(trace, index, ink, rest));
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { ...layout.font, family: ink.font, color: ink.text };
  layout.hoverlabel = {
    bgcolor: ink.surface,
    bordercolor: ink.line,
    font: { color: ink.text, family: ink.font, size: 13 },
    ...layout.hoverlabel,
  };
  layout.margin = { t: 8, r: 8, b: 32, l: 48, ...layout.margin };
  layout.autosize = true;
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(name)) layout[name] = paintAxis(layout[name], ink);
  }
  layout.xaxis ??= paintAxis({}, ink);
  layout.yaxis ??= paintAxis({}, ink);
  for (const note of layout.annotations ?? []) note.font = { ...note.font, color: ink.text };
  delete layout.template;
  delete layout.meta;
  layout.transition = { duration: 0 };
  return { data, layout };
}

function draw(element) {
  const source = document.getElementById(element.dataset.chart);
  if (!source) return;
  const { data, layout } = dressed(JSON.parse(source.textContent));
  window.Plotly.react(element, data, layout, CONFIG);
  element.dataset.drawn = "";
}

function drawAll() {
  document.querySelectorAll("[data-chart]").forEach(draw);
}

drawAll();
document.addEventListener("themechange", drawAll);
document.addEventListener("htmx:afterSettle", drawAll);
