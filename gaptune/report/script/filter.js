// The filter: `FLT, front, gap < 0.5` becomes a test of rows, and a word on each part that cannot be understood.
const KEYWORDS = {
  front: (row) => onFront.has(row),
  feasible: (row) => rows.broken[row] !== null && !infeasible.has(row),
  infeasible: (row) => infeasible.has(row),
};
const COMPARE = {
  "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "!=": (a, b) => a !== b,
  "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b,
};
const SAME = { "==": "=", "≤": "<=", "≥": ">=", "≠": "!=" };

// Parts between commas; a comma in quotes belongs to its part.
const parts = (text) => (text.match(/(?:"(?:\\.|[^"\\])*"|[^,])+/g) ?? []).map((part) => part.trim()).filter(Boolean);
const quoted = (text) => text.length > 1 && text.startsWith('"') && text.endsWith('"');
const bare = (text) => (quoted(text) ? text.slice(1, -1) : text);

// A column by its label or its full name, exactly, else in any case.
function findColumn(text) {
  const known = [...columns.values()], lower = text.toLowerCase();
  return known.find((column) => column.label === text) ?? columns.get(text)
    ?? known.find((column) => column.label.toLowerCase() === lower || column.name.toLowerCase() === lower);
}
function nearest(text) {
  const lower = text.toLowerCase();
  const like = [...columns.values()].filter((column) => column.name.toLowerCase().includes(lower) || lower.includes(lastPart(column.name).toLowerCase()));
  return like.length ? `; perhaps ${like.slice(0, 3).map((column) => column.label).join(", ")}` : "";
}

// A part's test, or the reason why there is none.
function condition(part) {
  const found = quoted(part) ? null : part.match(/^("[^"]*"|[^<>=!≤≥≠]*?)\s*(<=|>=|!=|==|<|>|=|≤|≥|≠)\s*(.*)$/s);
  return found ? comparison(bare(found[1].trim()), SAME[found[2]] ?? found[2], found[3].trim()) : textual(part);
}
function comparison(name, operator, bound) {
  const column = findColumn(name);
  if (!column) return { why: name === "" ? "the name of a column is missing" : `there is no column “${name}”${nearest(name)}` };
  if (bound === "") return { why: `“${name} ${operator}” lacks a value` };
  const equal = operator === "=" || operator === "!=";
  const number = Number(bound), lower = bound.toLowerCase(), inner = bare(bound).toLowerCase();
  if (column.text && !equal) return { why: `${column.label} has no order: use = or !=` };
  const sign = [NULL, OFF, MISSING].find((each) => each.sign === lower);
  if (!column.text && Number.isNaN(number) && !(equal && sign)) return { why: `“${bound}” is not a number` };
  const same = (row) => {
    const value = column.values[row];
    if (column.name === "trial") return rows.trials[row].includes(number);
    if (absent(value) || sign) return value === sign;
    if (column.text) return [lower, inner].includes(String(value).toLowerCase());
    return value === number || show(value) === bound;
  };
  if (equal) return { keep: (row) => same(row) === (operator === "=") };
  return { keep: (row) => !absent(column.values[row]) && COMPARE[operator](column.values[row], number) };
}
function textual(part) {
  const text = bare(part), lower = text.toLowerCase();
  if (!quoted(part) && Object.hasOwn(KEYWORDS, lower)) return { keep: KEYWORDS[lower] };
  const has = (column, row) => {
    const value = column.values[row];
    return column.text && !absent(value) ? value.toLowerCase().includes(lower) : [show(value), shownOf(column, row)].includes(lower);
  };
  const keep = (row) => tableColumns.some((column) => has(column, row));
  if (all.some(keep)) return { keep };
  const column = findColumn(text);
  if (!column) return { keep: () => false, why: `no trial has the text “${text}”` };
  const example = column.values.find((value) => !absent(value) && value !== "");
  return { why: `“${text}” is a column: write ${column.label} ${column.text ? "=" : "<"} ${example === undefined ? "…" : show(example)}` };
}

// What a filter keeps; parts that are not understood keep everything, and are listed.
function parseFilter(text) {
  const found = parts(text).map(condition);
  const tests = found.filter((one) => one.keep).map((one) => one.keep);
  return { keep: (row) => tests.every((keep) => keep(row)), troubles: found.filter((one) => one.why).map((one) => one.why) };
}

// ---- what is chosen: by the filter and by ranges on the axes of the parameters; table and plots follow ----
const choice = { keep: () => true, troubles: [], ranges: null }, followers = [];
const chosen = (row) => choice.keep(row) && (choice.ranges === null || choice.ranges(row));
const narrowed = () => byId("filter").value.trim() !== "" || choice.ranges !== null;
function setFilter(text) {
  byId("filter").value = text;
  Object.assign(choice, parseFilter(text));
  for (const follow of followers) follow("filter");
}
function setRanges(ranges) {
  choice.ranges = ranges;
  for (const follow of followers) follow("ranges");
}
