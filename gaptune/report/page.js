"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows, count = rows.trial.length;
const onFront = new Set(data.front);
// For what is told apart in turn; how methods look comes with the data.
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999", "#F0E442"];
const SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star", "x", "cross"];
const groups = [...new Map(rows.method.map((method) => [data.looks[method].group, data.looks[method]])).values()].sort((a, b) => a.order - b.order);
const short = (name) => name.replace(/^temperature\./, "");
const DECADES = [0.0001, 0.001, 0.01, 0.1, 1, 10].flatMap((decade) => [1, 2, 5].map((digit) => Number((digit * decade).toPrecision(1))));
const LOG = { type: "log", tickvals: DECADES, ticktext: DECADES.map(String) };
const MANY = 2000; // from here on points are drawn by WebGL, and a part of the lines across the knobs
const byId = (id) => document.getElementById(id);
const make = (tag, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== null && text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const show = (value) => {
  if (value === null || value === undefined) return "·";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 0.01 ? value.toFixed(3) : value.toPrecision(3);
};
const titled = (metric) => {
  const about = data.metrics[metric];
  const arrow = about && about.direction === "max" ? " ↑" : about && about.direction === "min" ? " ↓" : "";
  return metric + arrow + (about && about.unit && about.unit !== "1" ? ` (${about.unit})` : "");
};

// ---- charts: each is a function that draws itself anew, for another theme as well ----
const charts = [];
let turn = 0;
// One after the other, with time between them for the reader's clicks; a second call takes over from the first.
async function redraw() {
  const mine = ++turn;
  for (const draw of charts) {
    await new Promise((next) => setTimeout(next));
    if (mine !== turn) return;
    draw();
  }
}
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const axis = (title, more = {}) => ({ title: { text: title, font: { size: 12 }, standoff: 8 }, gridcolor: style("--line"), zeroline: false, linecolor: style("--line"), automargin: true, ...more });
const layout = (more = {}) => ({
  paper_bgcolor: style("--back"), plot_bgcolor: style("--back"), font: { color: style("--text"), size: 12 },
  margin: { l: 55, r: 12, t: 12, b: 45 }, hovermode: "closest", legend: { orientation: "h", y: -0.22 }, ...more,
});
const SETTINGS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
function chart(id, traces, more) {
  charts.push(() => Plotly.react(id, traces(), layout(more()), SETTINGS));
}
function empty(id, why) {
  const place = byId(id);
  place.replaceChildren(make("p", why, { class: "note" }));
  place.classList.remove("chart", "tall");
  place.removeAttribute("role");
}

const told = Array.from({ length: count }, (_, row) => {
  const scores = data.objectives.map((o) => `${o.metric} ${show(data.scores[o.metric]?.[row])}`);
  for (const metric of ["geometry/gap", "temperature/tau"])
    if (!data.objectives.some((o) => o.metric === metric)) scores.push(`${metric} ${show(data.scores[metric]?.[row])}`);
  const knobs = Object.entries(data.knobs).filter(([, values]) => values[row] !== null).map(([knob, values]) => `${knob} = ${show(values[row])}`);
  return [`<b>trial ${rows.trial[row]}: ${rows.method[row]}</b>`, ...scores, ...knobs].join("<br>");
});
const complete = [...rows.trial.keys()].filter((row) => rows.state[row] === "COMPLETE");
function points(x, y) {
  const type = count > MANY ? "scattergl" : "scatter";
  const traces = groups.map((look) => {
    const mine = complete.filter((row) => data.looks[rows.method[row]].group === look.group);
    const front = mine.map((row) => onFront.has(rows.trial[row]));
    return {
      type, mode: "markers", name: look.group, x: mine.map((row) => x[row]), y: mine.map((row) => y[row]),
      text: mine.map((row) => told[row]), customdata: mine, hovertemplate: "%{text}<extra></extra>",
      marker: {
        color: look.color, symbol: look.symbol, size: front.map((yes) => (yes ? 10 : 8)), opacity: front.map((yes) => (yes ? 1 : 0.75)),
        line: { color: look.color, width: look.symbol.includes("open") ? 1.5 : 0 },
      },
    };
  });
  const members = complete.filter((row) => onFront.has(rows.trial[row]));
  return [...traces, { type, mode: "markers", name: "on the front", hoverinfo: "skip", x: members.map((row) => x[row]), y: members.map((row) => y[row]), marker: { symbol: "circle-open", size: 18, color: style("--text"), line: { width: 1.2 } } }];
}
// Looks closer where the worst quarter would squeeze the others into a corner; a double click shows all.
function closer(name) {
  const values = complete.map((row) => data.scores[name][row]).filter((value) => value !== null).sort((a, b) => a - b);
  const side = data.objectives.find((o) => o.metric === name)?.maximize ?? { max: true, min: false }[data.metrics[name].direction];
  if (values.length < 12 || side === undefined) return null;
  const edge = values[Math.floor((side ? 0.25 : 0.75) * (values.length - 1))], best = side ? values[values.length - 1] : values[0];
  const kept = [edge, best, ...complete.filter((row) => onFront.has(rows.trial[row])).map((row) => data.scores[name][row])];
  const low = Math.min(...kept), high = Math.max(...kept), margin = 0.08 * (high - low);
  return high > low && high - low < (values[values.length - 1] - values[0]) / 2 ? [low - margin, high + margin] : null;
}
function opened(row) {
  const link = data.links[rows.trial[row]], page = link && window.open(link, "_blank");
  if (page) page.opener = null;
  else { // no link, or opening pages is forbidden, as where MLflow shows the report itself
    byId("filter").value = `trial=${rows.trial[row]}`;
    fill();
    byId("trials-section").scrollIntoView();
  }
}

// ---- headline ----
for (const sentence of data.headline) byId("headline").append(make("p", sentence));

// ---- the front ----
const names = Object.keys(data.metrics);
for (const [id, index] of [["front-x", 0], ["front-y", 1]]) {
  for (const name of names) byId(id).append(make("option", name, { value: name }));
  byId(id).value = data.objectives[index].metric;
}
const line = () => {
  const [x, y] = [byId("front-x").value, byId("front-y").value];
  const own = data.objectives.length === 2 && x === data.objectives[0].metric && y === data.objectives[1].metric;
  const at = new Map(rows.trial.map((trial, row) => [trial, row]));
  const members = own ? data.front.map((trial) => at.get(trial)) : [];
  return { type: "scatter", mode: "lines", name: "front", hoverinfo: "skip", x: members.map((row) => data.scores[x][row]), y: members.map((row) => data.scores[y][row]), line: { color: style("--soft"), width: 1, dash: "dot" }, showlegend: false };
};
if (complete.length) {
  const drawFront = () => {
    const [x, y] = [byId("front-x").value, byId("front-y").value];
    const [across, up] = [closer(x), closer(y)];
    const beyond = (range, value) => range !== null && value !== null && (value < range[0] || value > range[1]);
    const outside = complete.filter((row) => beyond(across, data.scores[x][row]) || beyond(up, data.scores[y][row])).length;
    byId("outside").textContent = outside ? `${outside} of ${complete.length} trials lie outside; a double click shows all.` : "";
    const legend = { orientation: "h", y: -0.22, ...(window.innerWidth < 600 ? { font: { size: 10 }, entrywidthmode: "fraction", entrywidth: 0.46 } : {}) };
    Plotly.react("front", [line(), ...points(data.scores[x], data.scores[y])], layout({ legend, xaxis: axis(titled(x), across ? { range: across } : { autorange: true }), yaxis: axis(titled(y), up ? { range: up } : { autorange: true }) }), SETTINGS);
    byId("front").removeAllListeners("plotly_click");
    byId("front").on("plotly_click", (event) => opened(event.points[0].customdata));
  };
  charts.push(drawFront);
  for (const id of ["front-x", "front-y"]) byId(id).addEventListener("change", drawFront);
} else empty("front", "No trial is complete yet.");

// ---- retrieval against gap and temperature ----
const retrieval = data.objectives.map((o) => o.metric).find((metric) => metric.startsWith("retrieval/")) || "retrieval/mean_r1";
for (const [id, across, more] of [["u-gap", "geometry/gap", {}], ["u-tau", "temperature/tau", LOG]]) {
  if (complete.length && data.scores[across] && data.scores[retrieval])
    chart(id, () => points(data.scores[across], data.scores[retrieval]), () => ({ xaxis: axis(titled(across), more), yaxis: axis(titled(retrieval)), showlegend: false }));
  else empty(id, `No trial has both ${across} and ${retrieval}.`);
}
if (data.correlations.length) {
  const table = make("table");
  table.append(make("caption", "Spearman's rank correlation over sets of knobs, with 95 % bootstrap interval", { class: "note" }));
  for (const one of data.correlations) {
    const tr = make("tr");
    tr.append(make("td", `${one.first} and ${one.second}`, { class: "text" }), make("td", show(one.rho)), make("td", `${show(one.low)} … ${show(one.high)}`));
    table.append(tr);
  }
  byId("correlations").append(table);
}

// ---- over training ----
const curved = Object.keys(data.curves).sort((a, b) => onFront.has(Number(b)) - onFront.has(Number(a)));
curved.forEach((trial, index) => {
  const label = make("label"), box = make("input", null, { type: "checkbox", value: trial });
  box.checked = index < 6;
  box.addEventListener("change", () => curveCharts.forEach((draw) => draw()));
  const row = rows.trial.indexOf(Number(trial));
  label.append(box, ` ${trial} ${rows.method[row]}`);
  byId("curves-choice").append(label);
});
const curveCharts = [];
for (const [id, metric, more] of [["curve-gap", "geometry/gap", {}], ["curve-tau", "temperature/tau", LOG]]) {
  if (!curved.length) { empty(id, "No trial has reported yet."); continue; }
  const traces = () => [...byId("curves-choice").querySelectorAll("input:checked")].map((box, index) => {
    const curve = data.curves[box.value];
    const dash = ["solid", "dash", "dot", "dashdot"][Math.floor(index / COLORS.length) % 4];
    return { type: "scatter", mode: "lines+markers", name: `${box.value} ${rows.method[rows.trial.indexOf(Number(box.value))]}`, x: curve.epoch, y: curve[metric], line: { color: COLORS[index % COLORS.length], dash }, marker: { symbol: SHAPES[index % SHAPES.length], size: 6 } };
  });
  const draw = () => Plotly.react(id, traces(), layout({ xaxis: axis("epoch", { tickformat: "d" }), yaxis: axis(titled(metric), more), showlegend: true }), SETTINGS);
  charts.push(draw);
  curveCharts.push(draw);
}

// ---- parallel coordinates ----
function dimension(name, values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.every((value) => typeof value === "number")) {
    const logged = data.log.includes(name);
    const scale = (value) => (logged ? Math.log10(value) : value);
    const low = Math.min(...known.map(scale)), high = Math.max(...known.map(scale)), width = high - low || 1;
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    const missing = low - 0.12 * width, any = known.length < values.length;
    return {
      label: short(name.split("/").pop()), range: [any ? missing : low, high > low ? high : low + 1],
      tickvals: [...(any ? [missing] : []), ...new Set(ticks)], ticktext: [...(any ? ["–"] : []), ...[...new Set(ticks)].map((tick) => Number((logged ? 10 ** tick : tick).toPrecision(3)).toString())],
      values: values.map((value) => (value === null || value === undefined ? missing : scale(value))),
    };
  }
  const kinds = [...new Set(values.map((value) => (value === null || value === undefined ? "–" : String(value))))].sort();
  return { label: short(name.split("/").pop()), tickvals: kinds.map((_, index) => index), ticktext: kinds, range: [0, Math.max(1, kinds.length - 1)], values: values.map((value) => kinds.indexOf(value === null || value === undefined ? "–" : String(value))) };
}
const every = Math.ceil(complete.length / MANY);
const drawn = complete.filter((row, index) => index % every === 0 || onFront.has(rows.trial[row]));
const pick = (values) => drawn.map((row) => values[row]);
if (complete.length > 1) {
  const varied = Object.entries(data.knobs).filter(([, values]) => new Set(complete.map((row) => values[row])).size > 1);
  if (every > 1) byId("drawn").textContent = `Drawn: the front and one of every ${every} complete trials.`;
  const first = data.objectives[0].metric;
  byId("parallel").style.minWidth = `${75 * (varied.length + data.objectives.length + 3)}px`;
  chart("parallel", () => [{
    type: "parcoords", labelfont: { size: 11 }, tickfont: { size: 10 },
    line: { color: pick(data.scores[first]), colorscale: "Cividis", showscale: true, colorbar: { title: { text: first.split("/").pop() }, thickness: 10 } },
    dimensions: [dimension("method", pick(rows.method)), ...varied.map(([knob, values]) => dimension(knob, pick(values))), ...data.objectives.map((o) => dimension(o.metric, pick(data.scores[o.metric])))],
  }], () => ({ margin: { l: 130, r: 20, t: 50, b: 20 } }));
} else empty("parallel", "It takes two complete trials.");

// ---- importance ----
if (data.importance.length) {
  const knobs = [...new Set(data.importance.map((one) => one.knob))];
  chart("importance", () => data.objectives.map((o, index) => ({
    type: "bar", orientation: "h", name: o.metric, y: knobs, marker: { color: COLORS[index], pattern: { shape: ["", "/", "x", "."][index] } },
    x: knobs.map((knob) => data.importance.find((one) => one.knob === knob && one.objective === o.metric)?.share ?? 0),
  })), () => ({ barmode: "group", xaxis: axis("share of an objective's importance (PED-ANOVA)"), yaxis: axis("", { autorange: "reversed" }) }));
} else empty("importance", "It takes eight complete trials.");

// ---- history ----
const steps = data.history;
for (const [id, across, title] of [["history-trials", "trials", "complete sets of knobs"], ["history-epochs", "epochs", "epochs spent by all trials"]]) {
  if (steps.length && steps.some((step) => step.hypervolume !== null))
    chart(id, () => [{ type: "scatter", mode: "lines", line: { shape: "hv", color: COLORS[0] }, x: steps.map((step) => step[across]), y: steps.map((step) => step.hypervolume) }], () => ({ xaxis: axis(title), yaxis: axis("hypervolume", { rangemode: "tozero" }), showlegend: false }));
  else empty(id, "No hypervolume: no trial is complete, or an objective has no reference point.");
}
byId("unfinished").append(...data.unfinished.map((one) =>
  make("p", `${one.trials.length} ${one.state === "FAIL" ? "failed" : "stopped early"}: ${one.reason} (for example trial ${one.trials[0]}: ${one.example})`, { class: "note" })));

// ---- embeddings ----
const pcas = data.front.filter((trial) => trial in data.pca);
if (pcas.length) {
  for (const trial of pcas) byId("pca-trial").append(make("option", `${trial} ${rows.method[rows.trial.indexOf(Number(trial))]}`, { value: trial }));
  const draw = () => {
    const one = data.pca[byId("pca-trial").value];
    const lines = { x: [], y: [] };
    one.images.forEach((image, index) => { lines.x.push(image[0], one.texts[index][0], null); lines.y.push(image[1], one.texts[index][1], null); });
    const kind = (name, places, color, symbol) => ({ type: "scatter", mode: "markers", name, x: places.map((p) => p[0]), y: places.map((p) => p[1]), marker: { color, symbol, size: 8 } });
    const share = (index) => `component ${index + 1} (${(100 * one.explained[index]).toFixed(0)} % of the variance)`;
    return Plotly.react("pca", [{ type: "scatter", mode: "lines", name: "pairs", ...lines, hoverinfo: "skip", line: { color: style("--line"), width: 1 } }, kind("images", one.images, COLORS[0], "circle"), kind("texts", one.texts, COLORS[1], "triangle-up")], layout({ xaxis: axis(share(0), { constrain: "domain" }), yaxis: axis(share(1), { scaleanchor: "x", constrain: "domain" }) }), SETTINGS);
  };
  charts.push(draw);
  byId("pca-trial").addEventListener("change", draw);
} else {
  empty("pca", "The trials of the front have left no sample of embeddings beside their checkpoints.");
  byId("pca-trial").parentElement.remove();
}

// ---- table ----
const columns = [
  { name: "trial", values: rows.trial }, { name: "method", values: rows.method, text: true }, { name: "state", values: rows.state, text: true },
  ...[...new Set([...data.objectives.map((o) => o.metric), "geometry/gap", "temperature/tau"])].filter((name) => data.scores[name]).map((name) => ({ name, values: data.scores[name] })),
  ...Object.entries(data.knobs).map(([name, values]) => ({ name, values, text: values.some((value) => typeof value === "string") })),
  { name: "epochs", values: rows.epochs }, { name: "minutes", values: rows.minutes }, { name: "reason", values: rows.reason, text: true },
];
const named = (name) => columns.find((column) => column.name === name)?.values ?? data.scores[name];
const PAGE = 100;
let sorted = { column: columns[0], down: false }, shown = PAGE;
const COMPARE = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b };
function condition(word) {
  const found = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
  const values = found && named(found[1].trim());
  if (values) {
    const bound = found[3].trim(), number = Number(bound);
    return (row) => values[row] !== null && values[row] !== undefined && COMPARE[found[2]](typeof values[row] === "number" ? values[row] : String(values[row]), typeof values[row] === "number" ? number : bound);
  }
  const lower = word.toLowerCase();
  if (lower === "front") return (row) => onFront.has(rows.trial[row]);
  return (row) => columns.some((column) => column.values[row] !== null && String(column.values[row]).toLowerCase().includes(lower));
}
function fill() {
  const conditions = byId("filter").value.split(",").map((word) => word.trim()).filter(Boolean).map(condition);
  const kept = [...rows.trial.keys()].filter((row) => conditions.every((keep) => keep(row)));
  const { column, down } = sorted, side = down ? -1 : 1;
  kept.sort((a, b) => {
    const [x, y] = [column.values[a], column.values[b]];
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return side * (x < y ? -1 : x > y ? 1 : 0);
  });
  byId("count").textContent = `${kept.length} of ${count}`;
  byId("trials").tBodies[0].replaceChildren(...kept.slice(0, shown).map((row) => {
    const tr = make("tr", null, onFront.has(rows.trial[row]) ? { class: "front" } : {});
    for (const each of columns) {
      const td = make("td", null, each.text ? { class: "text" } : {}), link = data.links[rows.trial[row]];
      if (each.name === "trial" && link) td.append(make("a", rows.trial[row], { href: link, target: "_blank", rel: "noopener" }));
      else td.textContent = show(each.values[row]);
      tr.append(td);
    }
    return tr;
  }));
  byId("more").hidden = kept.length <= shown;
}
const head = make("tr");
for (const column of columns) {
  const th = make("th", null, { scope: "col", "aria-sort": "none", ...(column.text ? { class: "text" } : {}) }), button = make("button", short(column.name.split("/").pop()), { type: "button", title: data.metrics[column.name]?.meaning ?? column.name });
  button.addEventListener("click", () => {
    sorted = { column, down: sorted.column === column && !sorted.down };
    for (const other of head.children) other.setAttribute("aria-sort", "none");
    th.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    fill();
  });
  th.append(button);
  head.append(th);
}
byId("trials").tHead.append(head);
byId("filter").addEventListener("input", () => { shown = PAGE; fill(); });
byId("more").addEventListener("click", () => { shown += 10 * PAGE; fill(); });
window.addEventListener("beforeprint", () => { shown = Math.min(count, 1000); fill(); });
fill();

// ---- cost, and how to run it again ----
const cost = data.cost, spent = cost.money === null ? "" : ` (${show(cost.money)} at the price given)`;
byId("cost").append(make("p", `${show(cost.spent)} ${cost.unit}${spent} of training and evaluation, over ${show(cost.wall_hours)} hours; ${cost.epochs} epochs of ${cost.full} that full budgets have. ${cost.sessions} session(s), ${cost.retries} retries after faults.`));
const nodes = make("table");
nodes.append(make("caption", "By machine", { class: "note" }));
for (const [node, one] of Object.entries(cost.nodes)) {
  const tr = make("tr");
  tr.append(make("td", node, { class: "text" }), make("td", `${one.trials} trials`), make("td", `${show(one.hours)} h`));
  nodes.append(tr);
}
byId("cost").append(nodes);
byId("again").append(make("pre", data.again.command));
byId("again").append(make("p", `Data: ${data.again.data}`, { class: "note" }), make("p", Object.entries(data.again.versions).map(([name, version]) => `${name} ${version}`).join(", "), { class: "note" }));
for (const name of ["space", "sweep"]) {
  const details = make("details");
  details.append(make("summary", `${name}.yaml`), make("pre", data.again[name]));
  byId("again").append(details);
}

// ---- theme ----
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function theme(on) {
  document.documentElement.classList.toggle("dark", on);
  byId("theme").setAttribute("aria-pressed", String(on));
  byId("theme").textContent = on ? "Light" : "Dark";
  redraw();
}
byId("theme").addEventListener("click", () => theme(!document.documentElement.classList.contains("dark")));
dark.addEventListener("change", () => theme(dark.matches));
window.addEventListener("beforeprint", () => {
  theme(false);
  turn += 1; // paper does not wait: all at once, in place of one after the other
  for (const draw of charts) draw();
  for (const closed of document.querySelectorAll("details")) closed.open = true;
});
theme(dark.matches);
