"use strict";
// The chosen state: its trial's run, the command that takes it away, its mask, the trial's curve.
let picked = null; // [trial, step]

// Quoted for a shell, unless it needs none.
const quoted = (s) => (/^[\w@%+=:,.\/-]+$/.test(s) ? s : "'" + s.replace(/'/g, `'"'"'`) + "'");
function commandOf(i, step) {
  const place = D.storage === null || D.storage === "runs" ? "" : " --storage " + quoted(D.storage);
  return `goodnet pick ${quoted(D.name)} --trial ${quoted(T.key[i])} --step ${step}${place}`;
}
function linkOf(i) {
  const links = LINKS;
  if (!links) return null;
  const run = Object.hasOwn(links.runs, T.key[i]) ? links.runs[T.key[i]] : null;
  if (run) return [links.base + run + links.after, "this trial's run in MLflow"];
  return links.sweep ? [links.base + links.sweep + links.after, "the sweep's run in MLflow"] : null;
}

// {layer: [indices]} of a state; null where it is not on the page.
function maskOf(i, step) {
  const p = frontierOf.get(i + " " + step);
  if (p) return p.mask;
  const s = states(i), at = s.step.indexOf(step), mask = {};
  if (at > 0 && !D.numbered) return null;
  const have = new Set();
  for (let j = 1; j <= at; j++) for (const c of s.changes[j]) if (c > 0) have.add(c); else have.delete(-c);
  for (const c of have) (mask[D.numbered.layers[D.numbered.layer[c - 1]]] ??= []).push(D.numbered.index[c - 1]);
  for (const list of Object.values(mask)) list.sort((a, b) => a - b);
  return mask;
}
function ranges(list) {
  const out = [];
  for (let k = 0; k < list.length; k++) {
    const from = list[k];
    while (k + 1 < list.length && list[k + 1] === list[k] + 1) k++;
    out.push(from === list[k] ? `${from}` : list[k] === from + 1 ? `${from}, ${list[k]}` : `${from}–${list[k]}`);
  }
  return out.join(", ");
}

async function copied(text, button) {
  let done = false;
  try { await navigator.clipboard.writeText(text); done = true; } catch {
    const area = el("textarea", { style: "position:fixed;opacity:0" }, text); // where the page is in a frame
    document.body.append(area); area.select();
    try { done = document.execCommand("copy"); } catch { /* the text can be marked by hand */ }
    area.remove(); button.focus();
  }
  button.textContent = done ? "Copied" : "Mark and copy by hand"; // until another state is chosen
}

function choose(i, step, focus = true) {
  picked = [i, step];
  $("detail").hidden = false;
  redrawDetail();
  for (const row of document.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
  for (const b of document.querySelectorAll(`button.state[data-trial="${i}"][data-step="${step}"]`)) b.closest("tr").classList.add("chosen");
  if (focus) $("detail-title").focus({ preventScroll: window.innerWidth > 1150 });
  resized();
}
function resized() { for (const c of document.querySelectorAll("main .chart, main .facets > div")) if (c.data && c.offsetParent) Plotly.Plots.resize(c); }

function redrawDetail() {
  if (!picked) return;
  const [i, step] = picked, s = states(i), at = s.step.indexOf(step), p = frontierOf.get(i + " " + step);
  const last = s.step.length - 1, link = linkOf(i), body = $("detail-body"), pair = (k, v) => [el("dt", {}, k), el("dd", {}, v)];
  $("detail-title").textContent = step === 0 ? "The BadNet, before step 1" : `Step ${step}` + (p ? ", on the frontier" : "");
  $("detail-before").disabled = at <= 0;
  $("detail-next").disabled = at >= last;
  const parts = [el("dl", {}, ...pair("trial", named(i)), ...pair("key", T.key[i]), ...pair("kind", S.kind(i)), ...pair("seed", String(T.seed[i])),
    ...pair("status", S.status(i) + (T.reason[i] ? ": " + T.reason[i] : "")), ...pair("seconds", T.seconds[i].toFixed(1)),
    ...(at >= 0 ? pair("pruned", s.pruned[at] + " channels") : []))];
  parts.push(link ? el("p", {}, el("a", { href: link[0], target: "_blank", rel: "noopener noreferrer", id: "detail-link" }, link[1]))
    : el("p", { class: "small" }, "No link: this page was not told of an MLflow server that a browser can open."));
  if (at > 0) {
    const text = commandOf(i, step), button = el("button", { type: "button", id: "detail-copy", "aria-live": "polite", onclick: () => copied(text, button) }, "Copy");
    parts.push(el("div", { class: "command" }, el("code", { id: "detail-command" }, text), button));
  }
  if (at >= 0 && s.counts[at]) parts.push(countsTable(s.counts[at], p ? p.test : at === 0 ? D.badnet.test : null));
  if (at > 0) {
    const mask = maskOf(i, step), layers = mask ? Object.keys(mask).sort() : [];
    parts.push(el("h3", {}, "Mask by layer" + (p && p.keep_bias ? " (biases kept)" : "")));
    parts.push(mask === null ? el("p", { class: "small" }, "Not on this page; goodnet pick writes it.")
      : el("ul", { class: "masks" }, ...layers.map((layer) => el("li", {}, el("b", {}, layer), ` ${mask[layer].length}: ${ranges(mask[layer])}`))));
    if (p && p.weights) parts.push(el("p", { class: "small" }, "Weights are changed too; they are stored beside the record."));
  }
  body.replaceChildren(...parts);
  curve(i, step);
}
function countsTable(valid, test) {
  const cell = (c, text) => el("td", {}, c ? text(c) : "not counted");
  const row = (words, text) => el("tr", {}, el("td", { class: "text" }, words), cell(valid, text), cell(test, text));
  const attacks = Array.from({ length: triggers }, (_, k) => row("attack success" + (triggers > 1 ? `, trigger ${k + 1}` : ""), (c) => within(c[2 + 2 * k], c[3 + 2 * k])));
  return el("table", {}, el("thead", {}, el("tr", {}, el("th"), el("th", {}, "validation"), el("th", {}, "test"))),
    el("tbody", {}, row("clean accuracy", (c) => within(c[0], c[1])), ...attacks));
}
function curve(i, step) {
  const s = states(i), line = (name, of, k, mark) => ({ x: s.step, y: s.counts.map(of), name, mode: "lines+markers",
    line: { color: colour(k), width: 2, shape: "hv" }, marker: { size: 5, symbol: mark }, hovertemplate: "step %{x}: %{y:.2%}<extra></extra>" });
  if (!s.counts.length || S.status(i) === "failed") return empty("curve", "A failed trial has no curve.");
  draw("curve", [line("clean accuracy", clean, 0, "circle"), line("attack success", attack, 5, "square")], {
    height: 260, margin: { l: 46, r: 8, t: 12, b: 38 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { title: { text: "step" } }, yaxis: { tickformat: ".0%", range: [-0.03, 1.05] },
    shapes: [{ type: "line", x0: step, x1: step, y0: 0, y1: 1, yref: "paper", line: { width: 1.5, dash: "dot", color: css("--ink") } }],
  }, (point) => choose(i, point.x, false));
}

function makeDetail() {
  const move = (by) => { const s = states(picked[0]); choose(picked[0], s.step[s.step.indexOf(picked[1]) + by], false); };
  $("detail-before").addEventListener("click", () => move(-1));
  $("detail-next").addEventListener("click", () => move(1));
  $("detail-close").addEventListener("click", () => { $("detail").hidden = true; picked = null; resized(); $("tab-" + tab).focus(); });
  document.addEventListener("click", (event) => {
    const b = event.target.closest && event.target.closest("button.state");
    if (b) choose(Number(b.dataset.trial), Number(b.dataset.step));
  });
}
