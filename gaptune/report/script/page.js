// The rest of the page, and its start: the outcome, the best trials, cost, how to run it again, the theme.
for (const sentence of data.headline) byId("headline").append(make("p", sentence));
if (infeasible.size) {
  const first = [...infeasible].slice(0, 20), p = make("p", "Infeasible: ");
  first.forEach((row, index) => p.append(index ? ", " : "", trialButton(row)));
  p.append(infeasible.size > first.length ? `, … (${first.length} of ${infeasible.size}; the filter “infeasible” shows all).` : ".");
  byId("headline").append(p);
}

// ---- the settings of the best trials ----
const BEST = 10;
if (frontRows.length) {
  const applies = (name) => frontRows.slice(0, BEST).some((row) => columns.get(name).values[row] !== OFF);
  const best = ["trial", "method", ...objectives, ...paramNames.filter(applies)].map((name) => columns.get(name)).filter(Boolean);
  const table = make("table"), head = make("tr");
  for (const column of best) head.append(make("th", headingOf(column.name), { scope: "col", title: column.meaning, ...(column.text ? { class: "text" } : {}) }));
  head.append(make("th", "", { scope: "col" }));
  table.append(make("thead"), make("tbody"));
  table.tHead.append(head);
  table.tBodies[0].append(...frontRows.slice(0, BEST).map((row) => {
    const tr = tableRow(row, best);
    tr.append(make("td", picksOf(row).join(", "), { class: "text" }));
    return tr;
  }));
  byId("best").append(table);
  if (frontRows.length > BEST) {
    const all = make("button", `show all ${frontRows.length}`, { type: "button", class: "link" });
    all.addEventListener("click", () => { setFilter("front"); byId("trials-section").scrollIntoView(); });
    byId("best-note").append(`${BEST} of ${frontRows.length} candidates on the front; `, all, ". ");
  }
  byId("best-note").append(`${best.some((column) => frontRows.some((row) => absent(column.values[row]))) ? SIGNS : ""} A trial's number opens its details.`);
} else byId("best-section").remove();

// ---- cost, and how to run it again ----
const cost = data.cost, spent = cost.money === null ? "" : ` (${show(cost.money)} at the price given)`;
byId("cost").append(make("p", [
  `${show(cost.spent)} ${cost.unit}${spent} of training and evaluation, over ${show(cost.wall_hours)} hours;`,
  `${cost.epochs.toLocaleString("en")} of ${plural(cost.full, "epoch")} that full budgets have.`,
  `${plural(cost.sessions, "session")}, ${plural(cost.retries, "retry", "retries")} after failures.`,
].join(" ")));
const nodes = make("table");
for (const [node, one] of Object.entries(cost.nodes)) {
  const tr = make("tr");
  tr.append(make("td", node, { class: "text" }), make("td", plural(one.trials, "trial")), make("td", `${show(one.hours)} h`));
  nodes.append(tr);
}
byId("cost").append(nodes);
byId("again").append(make("pre", data.again.command));
const versions = Object.entries(data.again.versions).map(([name, version]) => `${name} ${version}`).join(", ");
byId("again").append(make("p", `Data: ${data.again.data}`, { class: "note" }), make("p", versions, { class: "note" }));
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
  drawAll();
  for (const closed of document.querySelectorAll("details")) closed.open = true;
});
theme(dark.matches);
