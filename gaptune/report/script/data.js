"use strict";
// The sweep as the page holds it. A row is a candidate; a column is what is known of each row, under one label.
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows, count = rows.trial.length, all = [...rows.trial.keys()];
const rowOf = new Map();
rows.trials.forEach((trials, row) => trials.forEach((trial) => rowOf.set(trial, row)));
const frontRows = data.front.map((trial) => rowOf.get(trial)), onFront = new Set(frontRows);
const complete = all.filter((row) => rows.state[row] === "COMPLETE");
const infeasible = new Set(all.filter((row) => rows.broken[row]?.length));

const byId = (id) => document.getElementById(id);
// The one way in which text of the sweep comes into the page: as text.
const make = (tag, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== null && text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const plural = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// ---- what is not a number or a choice: three signs ----
const NULL = { sign: "null" }, OFF = { sign: "–" }, MISSING = { sign: "·" };
const SIGNS = "null: set to nothing; –: does not apply to this trial; ·: not measured.";
const absent = (value) => value === NULL || value === OFF || value === MISSING;
const measured = (values) => values.map((value) => value ?? MISSING);

function show(value) {
  if (absent(value)) return value.sign;
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1000 ? value.toFixed(0) : size >= 0.01 ? value.toFixed(3) : value.toPrecision(3);
}
// A choice as text; in quotes where it would read as another kind of value.
function choiceText(value) {
  if (typeof value !== "string") return typeof value === "object" ? JSON.stringify(value) : String(value);
  const misread = value.trim() === "" || !Number.isNaN(Number(value)) || ["null", "true", "false", "–", "·"].includes(value);
  return misread ? JSON.stringify(value) : value;
}

// ---- columns ----
const columns = new Map(); // by name
function addColumn(name, values, more = {}) {
  const text = more.order !== undefined || values.some((value) => !absent(value) && typeof value !== "number");
  const order = text ? more.order ?? [...new Set(values.filter((value) => !absent(value)))].sort() : null;
  const signs = order ? [NULL, OFF, MISSING].filter((sign) => values.includes(sign)).map(show) : [];
  columns.set(name, { name, log: false, meaning: name, ...more, values, text, order: order && [...order, ...signs] });
}
addColumn("trial", rows.trial);
addColumn("method", rows.method, { order: [...new Set(rows.method)].sort() });
addColumn("state", rows.state, { order: [...new Set(rows.state)].sort() });
if (data.constraints.length) {
  const kept = all.map((row) => (rows.broken[row] === null ? OFF : infeasible.has(row) ? "no" : "yes"));
  addColumn("feasible", kept, { order: ["yes", "no"], meaning: `Whether it keeps ${data.constraints.join(" and ")}` });
}
for (const [metric, values] of Object.entries(data.means))
  addColumn(metric, measured(values), { errors: data.errors[metric], meaning: `${metric}: ${data.metrics[metric].meaning}` });
for (const [parameter, values] of Object.entries(data.params)) {
  const off = new Set(data.off[parameter]), choices = data.choices[parameter];
  const filled = values.map((value, row) => (off.has(row) ? OFF : value === null ? NULL : choices ? choiceText(value) : value));
  const order = choices && [...new Set([...choices.map(choiceText), ...filled.filter((value) => !absent(value))])].filter((text) => text !== "null");
  addColumn(parameter, filled, { log: data.log.includes(parameter), parameter: true, ...(choices ? { order } : {}) });
}
addColumn("epochs", rows.epochs, { meaning: "Epochs trained, over all its seeds" });
addColumn("minutes", rows.minutes, { meaning: "Minutes of training and evaluation, over all its seeds" });
addColumn("reason", rows.reason.map((reason) => reason ?? ""), { meaning: "Why it failed or was stopped" });

// ---- the one labeller: the last part of a name, where no other column could be meant by it ----
const lastPart = (name) => name.split("/").pop().replace(/^temperature\./, "") || name;
const uses = new Map();
for (const name of columns.keys()) for (const text of new Set([name, lastPart(name)])) uses.set(text, (uses.get(text) ?? 0) + 1);
for (const column of columns.values()) column.label = uses.get(lastPart(column.name)) === 1 ? lastPart(column.name) : column.name;
const labelOf = (name) => columns.get(name)?.label ?? name;
const arrowOf = (name) => {
  const own = data.objectives.find((objective) => objective.metric === name);
  const direction = own ? (own.maximize ? "max" : "min") : data.metrics[name]?.direction;
  return { max: " ↑", min: " ↓" }[direction] ?? "";
};
const headingOf = (name) => labelOf(name) + arrowOf(name);
const titleOf = (name) => {
  const unit = data.metrics[name]?.unit;
  return headingOf(name) + (unit && unit !== "1" ? ` (${unit})` : "");
};
const methodOf = (row) => `trial ${rows.trial[row]}: ${rows.method[row]}`;
// A value with the standard error of its mean, where there are several seeds; as in the tables of `gaptune front`.
const shownOf = (column, row) => {
  const value = column.values[row], error = column.errors?.[row];
  if (absent(value) || error === null || error === undefined) return show(value);
  return error >= 0.0005 || error === 0 ? `${value.toFixed(3)} ± ${error.toFixed(3)}` : `${value.toFixed(5)} ± ${Number(error.toPrecision(1))}`;
};
const objectives = data.objectives.map((objective) => objective.metric);
const mainMetrics = [...new Set([...objectives, "geometry/gap", "temperature/tau"])].filter((name) => columns.has(name));
// What a row is picked for: an objective that it is best in, the knee.
const picksOf = (row) => [
  ...objectives.filter((name) => data.picks.best[name]?.includes(rows.trial[row])).map((name) => `best ${labelOf(name)}`),
  ...(data.picks.knee === rows.trial[row] ? ["knee"] : []),
];
const metricNames = Object.keys(data.means), paramNames = Object.keys(data.params);
const tableColumns = [
  "trial", "method", "state", "feasible", ...mainMetrics, ...paramNames, "epochs", "minutes", "reason",
].filter((name) => columns.has(name)).map((name) => columns.get(name));
