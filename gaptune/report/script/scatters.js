// Candidates as points: the front, retrieval against gap and temperature, and a metric against one parameter.

// ---- the front ----
// Looks closer where the worst quarter would squeeze the others into a corner; a double click shows all.
function closer(column) {
  const own = data.objectives.find((objective) => objective.metric === column.name);
  const side = own?.maximize ?? { max: true, min: false }[data.metrics[column.name].direction];
  const known = (some) => some.map((row) => column.values[row]).filter((value) => !absent(value));
  const values = known(complete).sort((a, b) => a - b);
  if (values.length < 12 || side === undefined) return null;
  const edge = values[Math.floor((side ? 0.25 : 0.75) * (values.length - 1))], best = side ? values[values.length - 1] : values[0];
  const kept = [edge, best, ...known(frontRows)];
  const low = Math.min(...kept), high = Math.max(...kept), margin = 0.08 * (high - low);
  return high > low && high - low < (values[values.length - 1] - values[0]) / 2 ? [low - margin, high + margin] : null;
}
// The edge of what the front dominates. Between two members there is what one of them attains, and no more.
function staircase(x, y) {
  const own = data.objectives.find((objective) => objective.metric === x.name);
  if (!frontRows.length || objectives.length !== 2 || x === y || !objectives.includes(x.name) || !objectives.includes(y.name)) return [];
  const members = [...frontRows].sort((a, b) => x.values[a] - x.values[b] || y.values[a] - y.values[b]);
  const line = { shape: own.maximize ? "vh" : "hv", color: style("--soft"), width: 1, dash: "dash" };
  return [{ type: "scatter", mode: "lines", name: "front", hoverinfo: "skip", x: members.map((row) => x.values[row]), y: members.map((row) => y.values[row]), line, showlegend: false }];
}
function drawFront() {
  const [x, y] = ["front-x", "front-y"].map((id) => columns.get(byId(id).value)), [across, up] = [closer(x), closer(y)];
  const beyond = (range, value) => range !== null && !absent(value) && (value < range[0] || value > range[1]);
  const outside = complete.filter((row) => beyond(across, x.values[row]) || beyond(up, y.values[row])).length;
  byId("outside").textContent = notPlaced(x, y) + (outside ? `${outside} of ${plural(complete.length, "trial")} lie outside; a double click shows all.` : "");
  const ranged = (range) => (range ? { range } : { autorange: true });
  drawPoints("front", [...staircase(x, y), ...points(x, y)], { xaxis: axisOf(x, ranged(across)), yaxis: axisOf(y, ranged(up)), showlegend: true });
}
if (complete.length) {
  metricSelect("front-x", objectives[0]);
  metricSelect("front-y", objectives[1]);
  pointChart("front", drawFront);
  for (const id of ["front-x", "front-y"]) byId(id).addEventListener("change", drawFront);
  byId("chance").append(...(data.seeds > 1
    ? [`Bars: standard error of the mean over ${data.seeds} seeds.`]
    : ["One seed for each candidate: how much of a difference is chance is not known. ", make("code", data.confirm), " retrains the front on new seeds."]));
} else {
  empty("front", NOTHING);
  byId("front-controls").remove();
}

// ---- retrieval against gap and temperature ----
const retrieval = objectives.find((metric) => metric.startsWith("retrieval/")) ?? "retrieval/mean_r1";
for (const [id, across] of [["u-gap", "geometry/gap"], ["u-tau", "temperature/tau"]]) {
  const [x, y] = [columns.get(across), columns.get(retrieval)];
  if (x && y && complete.some((row) => place(x, row) !== null && place(y, row) !== null))
    pointChart(id, () => drawPoints(id, points(x, y), { xaxis: axisOf(x), yaxis: axisOf(y), showlegend: false }));
  else empty(id, complete.length ? `No complete trial has both ${labelOf(across)} and ${labelOf(retrieval)}.` : NOTHING);
}
if (data.correlations.length) {
  byId("correlations").append(make("p", "Spearman's rank correlation over candidates, with its 95% bootstrap interval:", { class: "note" }));
  const table = make("table"), rho = (value) => String(Number(value.toFixed(2)) + 0);
  for (const one of data.correlations) {
    const tr = make("tr");
    tr.append(make("td", `${labelOf(one.first)} and ${labelOf(one.second)}`, { class: "text", title: `${one.first} and ${one.second}` }));
    if (one.rho === null) tr.append(make("td", `not known: ${one.unknown.text}`, { class: "text", colspan: 2 }));
    else tr.append(make("td", rho(one.rho)), make("td", `${rho(one.low)} … ${rho(one.high)}`));
    table.append(tr);
  }
  byId("correlations").append(table);
}

// ---- a metric against one parameter ----
function drawSlice() {
  const [x, y] = ["slice-x", "slice-y"].map((id) => columns.get(byId(id).value));
  byId("slice-note").textContent = notPlaced(x, y);
  drawPoints("slice", points(x, y), { xaxis: axisOf(x), yaxis: axisOf(y), showlegend: true });
}
const sliced = ["method", ...paramNames].filter((name) => new Set(complete.map((row) => columns.get(name).values[row])).size > 1);
if (complete.length && sliced.length) {
  metricSelect("slice-x", sliced.find((name) => name !== "method"), sliced);
  metricSelect("slice-y", objectives[0]);
  pointChart("slice", drawSlice);
  for (const id of ["slice-x", "slice-y"]) byId(id).addEventListener("change", drawSlice);
} else {
  empty("slice", complete.length ? "No parameter differs between the complete trials." : NOTHING);
  byId("slice-controls").remove();
}
