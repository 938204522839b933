// Metrics over training, of the selected trials.
const curved = all.filter((row) => rows.trials[row].some((trial) => trial in data.curves));
const curveMetrics = metricNames.filter((name) => Object.values(data.curves).some((curve) => curve.metrics[name]));

// A trace for each seed of some rows; the name and the style are the row's.
function curveTraces(some, metric) {
  return some.flatMap((row, index) => rows.trials[row].filter((trial) => trial in data.curves).map((trial, seed) => ({
    type: "scatter", mode: "lines+markers", name: plain(`${rows.trial[row]} ${rows.method[row]}`), legendgroup: row, showlegend: seed === 0,
    x: data.curves[trial].epoch, y: data.curves[trial].metrics[metric] ?? data.curves[trial].epoch.map(() => null),
    line: { color: COLORS[index % COLORS.length], dash: DASHES[Math.floor(index / COLORS.length) % DASHES.length] },
    marker: { symbol: SHAPES[index % SHAPES.length], size: 6 },
  })));
}
function curveAxes(some, metric) {
  const drawn = some.flatMap((row) => rows.trials[row]).map((trial) => data.curves[trial]).filter(Boolean);
  const values = drawn.flatMap((curve) => curve.metrics[metric] ?? []).filter((value) => value !== null);
  const logged = metric === "temperature/tau" && values.length && values.every((value) => value > 0);
  const epochs = drawn.flatMap((curve) => curve.epoch);
  return { xaxis: wholeAxis("epoch", epochs.length ? epochs : [0, 1]), yaxis: logged ? logAxis(titleOf(metric), values) : axis(titleOf(metric)) };
}

const CURVES = [["curve-gap", "curve-gap-metric", "geometry/gap"], ["curve-tau", "curve-tau-metric", "temperature/tau"]];
const boxes = new Map();
const ticked = () => curved.filter((row) => boxes.get(row).checked);
const drawCurve = (id, select) => Plotly.react(id, curveTraces(ticked(), byId(select).value), layout({ ...curveAxes(ticked(), byId(select).value), showlegend: true }), SETTINGS);
const drawCurves = () => CURVES.forEach(([id, select]) => drawCurve(id, select));
function tick(wanted) {
  for (const [row, box] of boxes) box.checked = wanted(row);
  drawCurves();
}
if (curved.length) {
  curved.sort((a, b) => onFront.has(b) - onFront.has(a) || a - b);
  const first = new Set(curved.slice(0, 6));
  for (const row of curved) {
    const label = make("label"), box = make("input", null, { type: "checkbox", value: rows.trial[row] });
    box.checked = first.has(row);
    box.addEventListener("change", drawCurves);
    label.append(box, ` ${rows.trial[row]} ${rows.method[row]}`);
    boxes.set(row, box);
    byId("curves-choice").append(label);
  }
  byId("curves-front").addEventListener("click", () => tick((row) => onFront.has(row)));
  byId("curves-filtered").addEventListener("click", () => tick(chosen));
  byId("curves-none").addEventListener("click", () => tick(() => false));
  for (const [id, select, metric] of CURVES) {
    metricSelect(select, metric, curveMetrics);
    byId(select).addEventListener("change", () => drawCurve(id, select));
    addChart(id, () => drawCurve(id, select));
  }
  const reported = all.filter((row) => rows.epochs[row] > 0).length;
  if (curved.length < reported) {
    const kept = `Curves of ${curved.length} of ${plural(reported, "trial")} are in this page: the front, one of each method, and an even part of the others. `;
    byId("curves-note").append(kept, make("code", `${data.show} TRIAL`), " has each trial's.");
  }
} else {
  for (const [id] of CURVES) empty(id, "No trial has reported yet.");
  byId("curves-controls").remove();
  byId("curves-choice").remove();
}
