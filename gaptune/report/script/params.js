// Parameters: all at once as parallel coordinates, and how much each matters.

// ---- parallel coordinates ----
// Texts for ticks, which Plotly shows here as they are: short, unless two of them would become one.
function tickLabels(texts) {
  const cut = texts.map((text) => (text.length > 18 ? `${text.slice(0, 17)}…` : text));
  return new Set(cut).size === texts.length ? cut : texts;
}
// An axis: where each value of a column has its place, and the ticks.
function scaleOf(column) {
  const values = complete.map((row) => column.values[row]), label = plain(headingOf(column.name));
  if (column.text) {
    const kinds = column.order.filter((text) => values.some((value) => show(value) === text));
    return { at: (value) => kinds.indexOf(show(value)), label, tickvals: kinds.map((_, index) => index), ticktext: tickLabels(kinds), range: [0, Math.max(1, kinds.length - 1)] };
  }
  const known = values.filter((value) => !absent(value)), signs = [MISSING, NULL, OFF].filter((sign) => values.includes(sign));
  const logged = column.log && known.every((value) => value > 0), scale = logged ? Math.log10 : (value) => value;
  const [low, high] = known.length ? [Math.min(...known.map(scale)), Math.max(...known.map(scale))] : [0, 1], width = high - low || 1;
  const below = (sign) => low - 0.12 * (signs.indexOf(sign) + 1) * width; // the signs have places below the numbers
  const ticks = known.length ? [...new Set([0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low)))] : [];
  return {
    at: (value) => (absent(value) ? below(value) : scale(value)), label,
    range: [signs.length ? below(signs.at(-1)) : low, high > low ? high : low + 1],
    tickvals: [...signs.map(below), ...ticks], ticktext: [...signs.map(show), ...tickTexts(ticks.map((tick) => (logged ? 10 ** tick : tick)))],
  };
}
// Lines in the colors of a metric; gray is below its scale: infeasible, or without the metric.
function lineColors(column, some) {
  const gray = (row) => infeasible.has(row) || absent(column.values[row]);
  const known = some.filter((row) => !gray(row)).map((row) => column.values[row]);
  const low = known.length ? Math.min(...known) : 0, high = known.length ? Math.max(...known) : 1, width = high - low || Math.abs(low) || 1;
  const ticks = known.length ? [...new Set([0, 0.5, 1].map((part) => low + part * (high - low)))] : [];
  const bar = { title: { text: plain(headingOf(column.name)), side: "right" }, thickness: 10 };
  const colors = document.documentElement.classList.contains("dark")
    ? ["#5a7fc0", "#7f8aa0", "#a09c8b", "#c8b866", "#fee838"] : ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#e8cf50"];
  const scale = (from) => colors.map((color, index) => [from + (1 - from) * (index / (colors.length - 1)), color]);
  if (!some.some(gray)) {
    const color = some.map((row) => column.values[row]);
    return { color, cmin: low, cmax: low + width, colorscale: scale(0), showscale: true, colorbar: { ...bar, tickvals: ticks, ticktext: tickTexts(ticks) } };
  }
  const floor = low - 0.15 * width, start = 0.1, why = some.some((row) => infeasible.has(row)) ? "infeasible" : MISSING.sign;
  return {
    color: some.map((row) => (gray(row) ? floor : column.values[row])), cmin: floor, cmax: low + width, showscale: true,
    colorscale: [[0, style("--bad")], [start, style("--bad")], ...scale(start)],
    colorbar: { ...bar, tickvals: [floor + 0.05 * width, ...ticks], ticktext: [why, ...tickTexts(ticks)] },
  };
}
const across = ["method", "feasible", ...paramNames.filter((name) => new Set(complete.map((row) => columns.get(name).values[row])).size > 1), ...objectives].filter((name) => columns.has(name));
const scales = across.map((name) => scaleOf(columns.get(name)));
const slanted = across.length > 8; // else long names meet
const ranges = new Map(); // by place in `across`: what is chosen on the axis, a range or several
function drawParallel() {
  const kept = complete.filter(choice.keep), every = Math.ceil(kept.length / MANY);
  const lines = kept.filter((row, index) => index % every === 0 || onFront.has(row));
  byId("drawn").textContent = every > 1 ? `Drawn: the front and one of every ${every} complete trials.` : "";
  const dimensions = scales.map(({ at, ...scale }, index) => ({
    ...scale, values: lines.map((row) => at(columns.get(across[index]).values[row])), ...(ranges.has(index) ? { constraintrange: ranges.get(index) } : {}),
  }));
  const trace = { type: "parcoords", labelangle: slanted ? -25 : 0, labelfont: { size: 11 }, tickfont: { size: 10 }, line: lineColors(columns.get(objectives[0]), lines), dimensions };
  Plotly.react("parallel", [trace], layout({ margin: { l: 140, r: 20, t: slanted ? 85 : 50, b: 20 } }), SETTINGS);
  byId("parallel").removeAllListeners("plotly_restyle");
  byId("parallel").on("plotly_restyle", readRanges);
}
function readRanges() {
  ranges.clear();
  byId("parallel").data[0].dimensions.forEach((one, index) => { if (one.constraintrange?.length) ranges.set(index, one.constraintrange); });
  const within = (row, [index, range]) => {
    const at = scales[index].at(columns.get(across[index]).values[row]);
    return (Array.isArray(range[0]) ? range : [range]).some(([low, high]) => at >= low && at <= high);
  };
  setRanges(ranges.size ? (row) => rows.state[row] === "COMPLETE" && [...ranges].every((one) => within(row, one)) : null);
}
const hasParallel = complete.length > 1 && columns.has(objectives[0]);
if (hasParallel) {
  byId("parallel").style.minWidth = `${(slanted ? 66 : 75) * (across.length + 2)}px`;
  addChart("parallel", drawParallel);
} else empty("parallel", complete.length ? "Needs at least two complete candidates." : NOTHING);
function clearRanges() {
  ranges.clear();
  if (hasParallel) drawParallel();
  setRanges(null);
}

// ---- importance ----
const fractions = data.importance;
const noFractions = Object.entries(data.no_importance).map(([metric, why]) => `${labelOf(metric)}: not known, because ${why}.`);
if (fractions.length) {
  const params = [...new Set(fractions.map((one) => one.parameter))], judged = objectives.filter((name) => fractions.some((one) => one.objective === name));
  chart("importance", () => judged.map((name, index) => ({
    type: "bar", orientation: "h", name: plain(labelOf(name)), y: params.map((parameter) => plain(labelOf(parameter))), marker: { color: COLORS[index], pattern: { shape: ["", "/", "x", "."][index] } },
    x: params.map((parameter) => fractions.find((one) => one.parameter === parameter && one.objective === name)?.fraction ?? null),
  })), () => ({ barmode: "group", showlegend: true, xaxis: axis("fraction of importance (PED-ANOVA)"), yaxis: axis("", { autorange: "reversed", type: "category" }) }));
  byId("importance-note").textContent = noFractions.join(" ");
} else empty("importance", noFractions.join(" ") || "No parameter varied.");
