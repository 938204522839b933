// Optimization history, and the embeddings of the front's members.
for (const [id, across, title] of [["history-trials", "trials", "complete candidates"], ["history-epochs", "epochs", "epochs spent by all trials"]]) {
  const steps = data.history;
  if (steps.length && steps.some((step) => step.hypervolume !== null))
    chart(id, () => [{
      type: "scatter", mode: steps.length > 60 ? "lines" : "lines+markers", marker: { size: 4 }, line: { shape: "hv", color: COLORS[0] },
      x: steps.map((step) => step[across]), y: steps.map((step) => step.hypervolume),
    }],
      () => ({ xaxis: wholeAxis(title, steps.map((step) => step[across])), yaxis: axis("hypervolume", { rangemode: "tozero" }), showlegend: false }));
  else empty(id, data.unknown ? `The hypervolume is unknown: ${data.unknown}.` : NOTHING);
}
byId("unfinished").append(...data.unfinished.map((one) =>
  make("p", `${one.trials.length} ${one.state === "FAIL" ? "failed" : "stopped early"}: ${one.reason} (for example trial ${one.trials[0]}: ${one.example})`, { class: "note" })));

// ---- embeddings ----
function drawEmbeddings(id, trial) {
  const one = data.pca[trial], lines = { x: [], y: [] };
  one.images.forEach((image, index) => { lines.x.push(image[0], one.texts[index][0], null); lines.y.push(image[1], one.texts[index][1], null); });
  const kind = (name, places, color, symbol) => ({ type: "scatter", mode: "markers", name, x: places.map((p) => p[0]), y: places.map((p) => p[1]), marker: { color, symbol, size: 8 } });
  const title = (index) => `component ${index + 1} (${(100 * one.explained[index]).toFixed(0)}% of the variance)`;
  const pairs = { type: "scatter", mode: "lines", name: "pairs", ...lines, hoverinfo: "skip", line: { color: style("--line"), width: 1 } };
  return Plotly.react(id, [pairs, kind("images", one.images, COLORS[0], "circle"), kind("texts", one.texts, COLORS[1], "triangle-up")],
    layout({ xaxis: axis(title(0), { constrain: "domain" }), yaxis: axis(title(1), { scaleanchor: "x", constrain: "domain" }) }), SETTINGS);
}
const embedded = data.front.filter((trial) => trial in data.pca);
if (embedded.length) {
  for (const trial of embedded) byId("pca-trial").append(make("option", `${trial} ${rows.method[rowOf.get(trial)]}`, { value: trial }));
  const draw = () => drawEmbeddings("pca", byId("pca-trial").value);
  addChart("pca", draw);
  byId("pca-trial").addEventListener("change", draw);
  if (embedded.length < data.front.length) byId("pca-note").textContent = `${embedded.length} of the ${data.front.length} members of the front are here.`;
} else {
  empty("pca", data.front.length ? "The trials of the front have left no sample of embeddings beside their checkpoints." : `There is no front: ${data.unknown}.`);
  byId("pca-trial").parentElement.remove();
}
