// The table of trials, which the filter and the ranges on the parameters' axes narrow.
const PAGE = 100, PRINTED = 1000;
let sorted = { column: columns.get("trial"), down: false }, shown = PAGE;

function byColumn({ column, down }) {
  const side = down ? -1 : 1, place = column.order && new Map(column.order.map((text, index) => [text, index]));
  return (a, b) => {
    const [x, y] = [column.values[a], column.values[b]];
    if (absent(x) || absent(y)) return absent(x) - absent(y);
    const [p, q] = place ? [place.get(x), place.get(y)] : [x, y];
    return side * (p < q ? -1 : p > q ? 1 : 0);
  };
}
function trialButton(row, text = String(rows.trial[row])) {
  const button = make("button", text, { type: "button", class: "link", "aria-label": `details of trial ${rows.trial[row]}` });
  button.addEventListener("click", () => openTrial(row));
  return button;
}
function tableRow(row, shownColumns) {
  const tr = make("tr", null, { class: onFront.has(row) ? "front" : infeasible.has(row) ? "infeasible" : "" });
  for (const column of shownColumns) {
    const td = make("td", null, column.text ? { class: "text" } : {});
    if (column.name === "trial") td.append(trialButton(row));
    else td.textContent = shownOf(column, row);
    tr.append(td);
  }
  return tr;
}
function fill() {
  const kept = all.filter(chosen).sort(byColumn(sorted));
  const cut = kept.length > shown ? `; the first ${shown.toLocaleString("en")} are shown` : "";
  byId("count").textContent = `${kept.length.toLocaleString("en")} of ${plural(count, "trial")}${cut}`;
  byId("troubles").replaceChildren(...choice.troubles.map((why) => make("p", `Not understood, or not found: ${why}.`)));
  byId("trials").tBodies[0].replaceChildren(...kept.slice(0, shown).map((row) => tableRow(row, tableColumns)));
  byId("more").hidden = byId("everything").hidden = kept.length <= shown;
  byId("everything").textContent = `Show all ${kept.length.toLocaleString("en")}`;
  byId("ranges").hidden = choice.ranges === null;
}

const head = make("tr");
for (const column of tableColumns) {
  const th = make("th", null, { scope: "col", "aria-sort": "none", ...(column.text ? { class: "text" } : {}) });
  const button = make("button", headingOf(column.name), { type: "button", title: column.meaning });
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
byId("signs").textContent = SIGNS + (infeasible.size ? " Gray and italic: infeasible, it breaks a constraint." : "");
byId("filter").placeholder = [rows.method[0] ?? "FLT", "front", `${labelOf(objectives[0])} > 0.2`].join(", ");
byId("filter").addEventListener("input", () => setFilter(byId("filter").value));
byId("clear-ranges").addEventListener("click", clearRanges);
byId("more").addEventListener("click", () => { shown += 10 * PAGE; fill(); });
byId("everything").addEventListener("click", () => { shown = count; fill(); });
window.addEventListener("beforeprint", () => { shown = Math.min(count, PRINTED); fill(); });
followers.push(() => { shown = PAGE; fill(); });
fill();
