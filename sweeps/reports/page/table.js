"use strict";
// All trials as a table: sorted, searched, a page at a time, exported as CSV.
const PER_PAGE = 50;
const rate = (c, of) => (c ? of(c) : null);
const COLUMNS = [
  // name, of a trial, how it is shown, text?
  ["trial", (i) => T.key[i], null, true], ["kind", S.kind, null, true], ["policy", S.policy, null, true], ["repair", S.repair, null, true],
  ["order", S.order, null, true], ["layers", S.layers, null, true], ["X", S.x], ["seed", (i) => T.seed[i]], ["status", S.status, null, true],
  ["pruned", (i) => (S.status(i) === "failed" ? null : T.pruned[i])],
  ["clean, valid", (i) => rate(T.valid[i], clean), percent], ["attack, valid", (i) => rate(T.valid[i], attack), percent],
  ["clean, test", (i) => rate(T.test[i], clean), percent], ["attack, test", (i) => rate(T.test[i], attack), percent],
  ["hypervolume", (i) => T.hypervolume[i], (v) => v.toFixed(4)], ["best attack", (i) => T.best[i], percent],
  ["frontier states", (i) => frontierCount.get(i) || 0], ["seconds", (i) => T.seconds[i], (v) => v.toFixed(1)],
  ["known", (i) => (T.asked[i] ? T.known[i] / T.asked[i] : null), (v) => percent(v, 0)],
];
const frontierCount = new Map();
for (const p of D.frontier) if (p.trial !== null) frontierCount.set(p.trial, (frontierCount.get(p.trial) || 0) + 1);
const HEAVY = { column: 14, down: true, page: 0 }; // sorted by hypervolume first
let haystack = null;

function listed() {
  const words = $("trials-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  haystack ??= all.map((i) => [named(i), T.key[i], S.kind(i), S.status(i), T.reason[i] || ""].join(" ").toLowerCase());
  const of = COLUMNS[HEAVY.column][1], sign = HEAVY.down ? -1 : 1;
  return shown().filter((i) => words.every((w) => haystack[i].includes(w))).map((i) => [of(i), i]).sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j; // what is not known comes last
    return sign * byNumber(a, b) || i - j;
  }).map(([, i]) => i);
}

VIEWS.trials = () => {
  const list = listed(), pages = Math.max(1, Math.ceil(list.length / PER_PAGE));
  HEAVY.page = Math.min(HEAVY.page, pages - 1);
  const head = COLUMNS.map(([name, , , text], k) => el("th", { class: text ? "text" : null, scope: "col",
    "aria-sort": k !== HEAVY.column ? "none" : HEAVY.down ? "descending" : "ascending" },
    el("button", { type: "button", "data-column": String(k), onclick: () => {
      HEAVY.down = HEAVY.column === k ? !HEAVY.down : !text; HEAVY.column = k; HEAVY.page = 0;
      VIEWS.trials();
      document.querySelector(`#trials-table button[data-column="${k}"]`).focus();
    } }, name + (k !== HEAVY.column ? "" : HEAVY.down ? " ▼" : " ▲"))));
  $("trials-table").tHead.replaceChildren(el("tr", {}, ...head));
  $("trials-table").tBodies[0].replaceChildren(...list.slice(HEAVY.page * PER_PAGE, (HEAVY.page + 1) * PER_PAGE).map(rowOf));
  $("trials-count").textContent = `${list.length} of ${TRIALS} trials`;
  $("trials-page").textContent = `page ${HEAVY.page + 1} of ${pages}`;
  $("trials-before").disabled = HEAVY.page === 0;
  $("trials-next").disabled = HEAVY.page === pages - 1;
};
function rowOf(i) {
  const s = states(i), last = s.step[s.step.length - 1];
  return el("tr", {}, ...COLUMNS.map(([name, of, format, text]) => {
    const value = of(i), words = value === null ? "–" : format ? format(value) : String(value);
    if (name !== "trial") return el("td", text ? { class: "text", title: words } : {}, text ? short(words, 60) : words);
    return el("td", { class: "text" }, el("button", { type: "button", class: "state", "data-trial": String(i), "data-step": String(last), title: words }, words.slice(0, 10)));
  }));
}

// A cell that a spreadsheet would take for a formula is told apart by an apostrophe.
function cell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? "'" + value : value;
  return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}
function csv(list) {
  const lines = [COLUMNS.map(([name]) => cell(name)).concat("reason"), ...list.map((i) => COLUMNS.map(([, of]) => cell(of(i))).concat(cell(T.reason[i])))];
  return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
}
function makeTable() {
  $("trials-search").addEventListener("input", () => { HEAVY.page = 0; VIEWS.trials(); });
  $("trials-before").addEventListener("click", () => { HEAVY.page--; VIEWS.trials(); });
  $("trials-next").addEventListener("click", () => { HEAVY.page++; VIEWS.trials(); });
  $("trials-csv").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([csv(listed())], { type: "text/csv" }));
    el("a", { href: address, download: D.name.replace(/[^\w.-]/g, "_") + "-trials.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
}
