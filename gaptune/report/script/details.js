// One trial in a window of the page: settings, metrics, curves, and the command that trains it again.
function pairsTable(title, names, row) {
  const table = make("table");
  table.append(make("caption", title));
  for (const name of names) {
    const tr = make("tr");
    tr.append(make("th", labelOf(name), { scope: "row", class: "text", title: columns.get(name).meaning }), make("td", shownOf(columns.get(name), row)));
    table.append(tr);
  }
  return table;
}
function standing(row) {
  const trials = rows.trials[row];
  return [
    [rows.state[row], `${plural(rows.epochs[row], "epoch")}, ${show(rows.minutes[row])} minutes`, ...(onFront.has(row) ? ["on the front"] : []), ...picksOf(row)].join(" · "),
    ...(trials.length > 1 ? [`The same parameters on ${trials.length} seeds: trials ${trials.join(", ")}. Metrics are means ± standard errors.`] : []),
    ...(rows.broken[row] ?? []).map((constraint) => `Infeasible: it breaks ${constraint}.`),
    ...(rows.reason[row] ? [`Reason: ${rows.reason[row]}`] : []),
  ];
}
function mlflowNote(row) {
  const link = data.mlflow.links[rows.trial[row]];
  if (!link) return [];
  const p = make("p", null, { class: "note" });
  p.append(make("a", "Its run in MLflow", { href: link, target: "_blank", rel: "noopener" }), data.mlflow.needs ? ` opens only while this runs: ${data.mlflow.needs}` : ` on ${data.mlflow.server}`);
  return [p];
}
function commands(row) {
  const words = (trial) => data.train.own[trial].map((index) => data.train.words[index]).join(" ");
  return rows.trials[row].map((trial) => make("pre", words(trial)));
}
function openTrial(row) {
  const title = rows.trials[row].length > 1 ? `Trials ${rows.trials[row].join(", ")}: ${rows.method[row]}` : `Trial ${rows.trial[row]}: ${rows.method[row]}`;
  byId("details-title").textContent = title;
  byId("details-standing").replaceChildren(...standing(row).map((text) => make("p", text)));
  const shown = [...new Set([...mainMetrics, ...metricNames])].filter((name) => mainMetrics.includes(name) || !absent(columns.get(name).values[row]));
  byId("details-settings").replaceChildren(pairsTable("Settings", paramNames, row));
  byId("details-metrics").replaceChildren(pairsTable("Metrics", shown, row));
  byId("details-again").replaceChildren(...commands(row));
  byId("details-mlflow").replaceChildren(...mlflowNote(row));
  const hasCurve = curved.includes(row), trial = rows.trials[row].find((number) => number in data.pca);
  byId("details-curve-part").hidden = !hasCurve;
  byId("details-pca-part").hidden = trial === undefined;
  byId("details-lacks").textContent = hasCurve || !rows.epochs[row] ? "" : `Its curves are not in this page; see them by: ${data.show} ${rows.trial[row]}`;
  byId("details").showModal();
  byId("details").scrollTop = 0;
  const draw = () => {
    const metric = byId("details-metric").value;
    Plotly.react("details-curve", curveTraces([row], metric), layout({ ...curveAxes([row], metric), showlegend: false }), SETTINGS);
  };
  byId("details-metric").onchange = draw;
  if (hasCurve) draw();
  if (trial !== undefined) drawEmbeddings("details-pca", trial);
}
metricSelect("details-metric", objectives[0], curveMetrics);
byId("details-close").addEventListener("click", () => byId("details").close());
byId("details").addEventListener("click", (event) => { if (event.target === byId("details")) byId("details").close(); });
