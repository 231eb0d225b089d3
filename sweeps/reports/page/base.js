"use strict";
// What all parts of the page use: the data, rates with intervals, colours, charts. Text from files is only
// ever set as textContent, or escaped where Plotly reads a little HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const LINKS = JSON.parse(document.getElementById("links").textContent);
const T = D.trials, N = T.names, TRIALS = T.key.length;
const $ = (id) => document.getElementById(id);
const esc = (s) => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (s, n = 34) => (s.length > n ? s.slice(0, n - 1) + "…" : s);
const label = (s, n) => esc(short(String(s), n));

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((c) => c !== null));
  return made;
}

// Of one trial: its settings in words.
const S = {
  order: (i) => N[T.order[i]], layers: (i) => N[T.layers[i]], x: (i) => T.x[i], policy: (i) => N[T.policy[i]],
  repair: (i) => N[T.repair[i]], kind: (i) => N[T.kind[i]], status: (i) => N[T.status[i]],
  procedure: (i) => S.policy(i) + (S.repair(i) === "none" ? "" : ", then " + S.repair(i)),
};
const SETTINGS = { order: "order", layers: "layer set", x: "X", policy: "policy", repair: "repair" };
function named(i) {
  const order = S.order(i) === "none" ? "" : ", " + S.order(i);
  return `${S.procedure(i)}${order}, ${S.layers(i)}, X = ${S.x(i)}`;
}

const OUTCOMES = {
  hypervolume: { name: "hypervolume of the trial's states", of: (i) => T.hypervolume[i], format: ".2~f" },
  best: { name: "lowest attack success within X", of: (i) => T.best[i], format: ".0%" },
  clean: { name: "clean accuracy at the end", of: (i) => (T.valid[i] ? T.valid[i][0] / T.valid[i][1] : null), format: ".1~%" },
};

// Counts: clean images right and all, then of each trigger images attacked and all.
const triggers = D.badnet.valid ? (D.badnet.valid.length - 2) / 2 : 1;
let trigger = null; // the one that is shown; null: the worst
const clean = (c) => c[0] / c[1];
function worst(c) {
  let at = 0;
  for (let k = 1; k < (c.length - 2) / 2; k++) if (c[2 + 2 * k] / c[3 + 2 * k] > c[2 + 2 * at] / c[3 + 2 * at]) at = k;
  return at;
}
const attacked = (c) => { const k = trigger ?? worst(c); return [c[2 + 2 * k], c[3 + 2 * k]]; };
const attack = (c) => { const [k, n] = attacked(c); return k / n; };
function wilson(k, n) {
  const z = 1.959964, r = k / n, scale = 1 + (z * z) / n, centre = r + (z * z) / (2 * n);
  const spread = z * Math.sqrt((r * (1 - r)) / n + (z * z) / (4 * n * n));
  return [k === 0 ? 0 : (centre - spread) / scale, k === n ? 1 : (centre + spread) / scale];
}
const percent = (v, digits = 2) => (100 * v).toFixed(digits) + "%";
function within(k, n) {
  const [low, high] = wilson(k, n);
  return `${percent(k / n)} [${(100 * low).toFixed(2)}–${(100 * high).toFixed(2)}]`;
}

// A trial's states, the BadNet first: arrays of equal length.
const unpacked = new Map();
function states(i) {
  if (unpacked.has(i)) return unpacked.get(i);
  const w = D.states[i], b = D.badnet.valid, out = { step: [0], pruned: [0], counts: b ? [b] : [], changes: [[]] };
  if (w && b) {
    let step = 0, pruned = 0, now = b;
    for (let j = 0; j < w.s.length; j++) {
      step += w.s[j]; pruned += w.p[j]; now = now.slice(); now[0] += w.c[j];
      for (let k = 0; k < w.a.length; k++) now[2 + 2 * k] += w.a[k][j];
      out.step.push(step); out.pruned.push(pruned); out.counts.push(now);
      out.changes.push(w.d ? (Array.isArray(w.d[j]) ? w.d[j] : [w.d[j]]) : null);
    }
  }
  unpacked.set(i, out);
  return out;
}
const frontierOf = new Map(D.frontier.map((p) => [p.trial + " " + p.step, p]));

// Non-dominated positions of points [accuracy, attack], by falling accuracy.
function nonDominated(points) {
  const by = points.map((_, i) => i).sort((a, b) => points[b][0] - points[a][0] || points[a][1] - points[b][1] || a - b);
  let lowest = Infinity;
  return by.filter((i) => points[i][1] < lowest && ((lowest = points[i][1]), true));
}

// Colours that colour-blind people tell apart (Okabe and Ito 2008), and a dash for when they run out.
const night = window.matchMedia("(prefers-color-scheme: dark)");
const PALETTE = () => (night.matches
  ? ["#56B4E9", "#F0B040", "#2BC79A", "#E79BC6", "#A8D5F2", "#FF8A3D", "#D6D64A"]
  : ["#0072B2", "#B87800", "#007F5C", "#B4588D", "#2E8FC4", "#C44F00", "#6F6F00"]);
const DASHES = ["solid", "dash", "dot", "dashdot"];
const colour = (k) => PALETTE()[k % 7];
const dash = (k) => DASHES[Math.floor(k / 7) % 4];
const SYMBOLS = { pruning: "circle", scaling: "triangle-up", finetune: "square", "finetune-margin": "cross", unlearn: "star", "i-bau": "triangle-down", "ft-sam": "pentagon", baseline: "x", unknown: "diamond" };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d"] };
function draw(id, traces, layout, onclick = null, ontip = null) {
  const place = typeof id === "string" ? $(id) : id;
  const axis = { gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
  const full = {
    autosize: true, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 13, color: css("--ink") },
    margin: { l: 60, r: 16, t: 30, b: 50 }, colorway: PALETTE(),
    hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--line"), font: { color: css("--ink"), size: 13 }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
    legend: { orientation: "h", y: -0.16, x: 0 }, ...layout,
  };
  place.style.height = (layout.height || 420) + "px"; // the chart then takes what its place has
  delete full.height;
  for (const name of Object.keys(full)) if (/^[xy]axis/.test(name)) full[name] = { ...axis, ...full[name] };
  for (const name of ["xaxis", "yaxis"]) full[name] ??= axis;
  if (place.firstElementChild && place.firstElementChild.className === "empty") place.replaceChildren();
  Plotly.react(place, traces, full, CONFIG);
  if (!place.dataset.heard) {
    place.dataset.heard = "yes";
    place.on("plotly_click", (event) => place.clicked && place.clicked(event.points[0]));
    place.on("plotly_hover", (event) => place.tipped && showTip(place.tipped(event.points[0]), event.event));
    place.on("plotly_unhover", hideTip);
  }
  place.clicked = onclick; place.tipped = ontip;
}
function empty(id, words) {
  const place = typeof id === "string" ? $(id) : id;
  if (place.data) Plotly.purge(place);
  delete place.dataset.heard;
  place.style.height = "";
  place.replaceChildren(el("p", { class: "empty" }, words));
}

function showTip(lines, event) {
  const tip = $("tip");
  if (!lines || !event) return hideTip();
  tip.replaceChildren(...lines.map((line, k) => el(k ? "div" : "b", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, window.innerWidth - width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + height > window.innerHeight ? event.clientY - height - 12 : event.clientY + 18) + "px";
}
function hideTip() { $("tip").hidden = true; }

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, words]) => el("option", { value, selected: value === chosen }, words)));
}
const distinct = (of, list) => [...new Set(list.map(of))];
const byNumber = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
