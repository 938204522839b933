// Charts in general: each is a function that draws itself anew, for another theme or another choice of trials as well.
// Colors and symbols for series in turn; the styles of methods come with the data.
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999", "#F0E442"];
const SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star", "x", "cross"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MANY = 2000; // from here on points are drawn by WebGL, and a part of the lines across the parameters
const SETTINGS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

// Plotly reads tags and entities in its texts: the one way in which text of the sweep comes into a chart.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Only charts near what the reader sees are drawn; the others are out of date ("busy") until they come near.
const charts = new Map(), near = new Set(), stale = new Set(); // functions by id; ids
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) near[isIntersecting ? "add" : "delete"](target.id);
  drawStale();
}, { rootMargin: "200px" });
let turn = 0;
function addChart(id, draw) {
  charts.set(id, draw);
  watcher.observe(byId(id));
}
function outdate(id) {
  stale.add(id);
  byId(id).setAttribute("aria-busy", "true");
}
function drawNow(id) {
  stale.delete(id);
  charts.get(id)();
  byId(id).removeAttribute("aria-busy");
}
// One after the other, with time between them for the reader's clicks; a second call takes over from the first.
async function drawStale() {
  const mine = ++turn;
  for (const id of charts.keys()) {
    if (!stale.has(id) || !near.has(id)) continue;
    await new Promise((next) => setTimeout(next));
    if (mine !== turn) return;
    drawNow(id);
  }
}
function redraw() {
  for (const id of charts.keys()) outdate(id);
  drawStale();
}
function drawAll() {
  turn += 1; // paper does not wait
  for (const id of charts.keys()) drawNow(id);
}
const chart = (id, traces, more) => addChart(id, () => Plotly.react(id, traces(), layout(more()), SETTINGS));
function empty(id, why) {
  const place = byId(id);
  place.replaceChildren(make("p", why, { class: "note" }));
  place.classList.remove("chart", "tall");
  place.removeAttribute("role");
  for (const note of place.parentElement.querySelectorAll(":scope > .note")) note.hidden = true; // they are of the chart
}
function layout(more = {}) {
  const narrow = window.innerWidth < 600 ? { font: { size: 10 }, entrywidthmode: "fraction", entrywidth: 0.46 } : {};
  return {
    paper_bgcolor: style("--back"), plot_bgcolor: style("--back"), font: { color: style("--text"), size: 12 },
    margin: { l: 55, r: 12, t: 12, b: 45 }, hovermode: "closest", legend: { orientation: "h", y: -0.22, ...narrow }, ...more,
  };
}

// ---- axes ----
const axis = (title, more = {}) => ({
  title: { text: plain(title), font: { size: 12 }, standoff: 8 }, gridcolor: style("--line"), zeroline: false,
  linecolor: style("--line"), automargin: true, ...more,
});
// Of whole numbers: no ticks between them, which would be rounded to the same number twice.
function wholeAxis(title, values) {
  const span = Math.max(1, Math.max(...values) - Math.min(...values)) / 8, power = 10 ** Math.floor(Math.log10(span));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= span);
  return axis(title, { dtick: Math.max(1, Math.round(step)), tick0: 0, tickformat: "d" });
}
function logTicks(low, high) {
  const decades = Array.from({ length: 61 }, (_, index) => 10 ** (index - 40));
  for (const digits of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
    const ticks = decades.flatMap((decade) => digits.map((digit) => Number((digit * decade).toPrecision(2)))).filter((tick) => tick >= low / 1.5 && tick <= high * 1.5);
    if (ticks.length >= 4) return ticks;
  }
  return [...new Set([low, Math.sqrt(low * high), high])]; // too close for round numbers between them
}
function logAxis(title, values) {
  const low = Math.min(...values), high = Math.max(...values), ticks = logTicks(low, high);
  const range = low === high ? { range: [Math.log10(low / 2), Math.log10(low * 2)] } : {};
  return axis(title, { type: "log", tickvals: ticks, ticktext: tickTexts(ticks), ...range });
}
// The axis of a column, as its values are: choices, whole numbers, a logarithm, or numbers.
function axisOf(column, more = {}) {
  const title = titleOf(column.name), known = complete.map((row) => column.values[row]).filter((value) => !absent(value));
  const base = column.text
    ? axis(title, { type: "category", categoryorder: "array", categoryarray: column.order.map(plain) })
    : (column.log || column.name === "temperature/tau") && known.length && known.every((value) => value > 0)
      ? logAxis(title, known)
      : known.length && known.every(Number.isInteger) ? wholeAxis(title, known) : axis(title);
  return { ...base, ...more };
}
// Numbers as short as they can be without two of them becoming one.
function tickTexts(ticks) {
  for (let digits = 3; digits < 8; digits += 1) {
    const texts = ticks.map((tick) => String(Number(tick.toPrecision(digits))));
    if (new Set(texts).size === ticks.length) return texts;
  }
  return ticks.map(String);
}

// ---- points: a row each, in the styles of their methods ----
const groups = [...new Map(rows.method.map((method) => [data.styles[method].group, data.styles[method]])).values()].sort((a, b) => a.order - b.order);
const hovered = all.map((row) => {
  const named = (name) => `${labelOf(name)} ${shownOf(columns.get(name), row)}`;
  const params = paramNames.filter((name) => columns.get(name).values[row] !== OFF).map((name) => `${labelOf(name)} = ${show(columns.get(name).values[row])}`);
  const broken = infeasible.has(row) ? [`infeasible: ${rows.broken[row].join("; ")}`] : [];
  return [`<b>${plain(methodOf(row))}</b>`, ...[...mainMetrics.map(named), ...broken, ...params].map(plain)].join("<br>");
});
const place = (column, row) => {
  const value = column.values[row];
  return column.text ? plain(show(value)) : absent(value) ? null : value;
};
const errorsOf = (column, some) => {
  if (!column.errors || !some.some((row) => column.errors[row])) return {};
  return { type: "data", array: some.map((row) => column.errors[row] ?? 0), thickness: 1, width: 3, color: style("--soft") };
};
// Traces of some complete rows by two columns; what is not chosen is faint, what breaks a constraint is a cross.
function points(x, y) {
  const type = count > MANY ? "scattergl" : "scatter", faint = narrowed();
  const trace = (name, some, marker) => ({
    type, mode: "markers", name: plain(name), x: some.map((row) => place(x, row)), y: some.map((row) => place(y, row)),
    error_x: errorsOf(x, some), error_y: errorsOf(y, some),
    text: some.map((row) => hovered[row]), customdata: some, hovertemplate: "%{text}<extra></extra>", marker,
  });
  const opacity = (row, usual) => (faint && !chosen(row) ? 0.12 : usual);
  const traces = groups.map((one) => {
    const mine = complete.filter((row) => data.styles[rows.method[row]].group === one.group && !infeasible.has(row));
    return trace(one.group, mine, {
      color: one.color, symbol: one.symbol, size: mine.map((row) => (onFront.has(row) ? 10 : 8)),
      opacity: mine.map((row) => opacity(row, onFront.has(row) ? 1 : 0.75)),
      line: { color: one.color, width: one.symbol.includes("open") ? 1.5 : 0 },
    });
  }).filter((one) => one.x.length);
  const out = complete.filter((row) => infeasible.has(row));
  if (out.length) traces.push(trace("infeasible", out, { color: style("--bad"), symbol: "x", size: 8, opacity: out.map((row) => opacity(row, 0.9)) }));
  if (frontRows.length) {
    const ring = trace("on the front", frontRows, { symbol: "circle-open", size: 18, color: style("--text"), line: { width: 1.2 }, opacity: frontRows.map((row) => opacity(row, 1)) });
    traces.push({ ...ring, error_x: {}, error_y: {}, hovertemplate: null, hoverinfo: "skip" });
  }
  return traces;
}
// How many complete trials two columns cannot place, in words; empty where they place all.
function notPlaced(x, y) {
  const lacks = (column, row) => place(column, row) === null;
  const lacking = complete.filter((row) => lacks(x, row) || lacks(y, row)).length;
  const labels = [...new Set([x, y])].filter((column) => complete.some((row) => lacks(column, row))).map((column) => column.label);
  return lacking ? `Not drawn: ${plural(lacking, "trial")} of ${complete.length} without a number for ${labels.join(" or ")}. ` : "";
}
// Draws points, and opens the trial that is clicked.
function drawPoints(id, traces, more) {
  Plotly.react(id, traces, layout(more), SETTINGS);
  byId(id).removeAllListeners("plotly_click");
  byId(id).on("plotly_click", (event) => openTrial(event.points[0].customdata));
}
const pointCharts = []; // those that follow a range as it is dragged
function pointChart(id, draw) {
  addChart(id, draw);
  pointCharts.push(id);
}
followers.push((what) => (what === "filter" ? redraw() : pointCharts.forEach((id) => (near.has(id) ? drawNow : outdate)(id))));
// ---- what several sections need ----
function metricSelect(id, chosenName, names = metricNames) {
  for (const name of names) byId(id).append(make("option", labelOf(name), { value: name, title: name }));
  if (names.includes(chosenName)) byId(id).value = chosenName;
}
const NOTHING = count ? "No trial is complete yet." : "No trial has been started yet.";
