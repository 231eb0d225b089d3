"use strict";
// Who ran what, which channels go, and how trials are distributed.
VIEWS.timeline = () => {
  const list = shown().filter((i) => T.started[i] !== null);
  const untold = shown().length - list.length;
  if (!list.length) return empty("timeline", "The records of the trials shown do not say when and where they ran; those of earlier versions do not.");
  const start = Math.min(...list.map((i) => T.started[i])), end = Math.max(...list.map((i) => T.started[i] + T.seconds[i]));
  const scale = end - start > 7200 ? 3600 : end - start > 180 ? 60 : 1, unit = { 3600: "hours", 60: "minutes", 1: "seconds" }[scale];
  const workers = distinct((i) => N[T.worker[i]], list).sort(byNumber), share = (i) => (T.asked[i] ? T.known[i] / T.asked[i] : 0);
  const shades = night.matches ? ["#4470c4", "#6a80a6", "#8a8678", "#c3b369", "#fee838"] : ["#00224e", "#3b496c", "#707173", "#b3a164", "#f0d64a"];
  const names = ["no question known before", "up to 25 %", "up to 50 %", "up to 75 %, hatched", "up to 100 %, hatched"];
  const bars = (mine, name, more) => ({ type: "bar", orientation: "h", name, y: mine.map((i) => label(N[T.worker[i]], 26)), base: mine.map((i) => (T.started[i] - start) / scale),
    x: mine.map((i) => Math.max(T.seconds[i] / scale, 1e-6)), customdata: mine, hoverinfo: "none", ...more });
  const done = list.filter((i) => S.status(i) !== "failed"), failed = list.filter((i) => S.status(i) === "failed");
  const line = { width: 0.6, color: css("--paper") };
  const traces = [];
  shades.forEach((color, k) => {
    const mine = done.filter((i) => Math.ceil(4 * share(i)) === k);
    if (mine.length) traces.push(bars(mine, names[k], { marker: { color, line, pattern: { shape: k > 2 ? "/" : "", solidity: 0.25, size: 6, fgcolor: css("--paper"), fillmode: "overlay" } }, showlegend: true }));
  });
  if (failed.length) traces.push(bars(failed, "failed", { marker: { color: css("--paper"), line: { width: 2, color: css("--bad") }, pattern: { shape: "x", fgcolor: css("--bad"), size: 6 } }, showlegend: true }));
  draw("timeline", traces, { height: 130 + 28 * Math.min(workers.length, 60), barmode: "overlay", bargap: 0.25, xaxis: { title: { text: `${unit} since the first trial began` } },
    yaxis: { type: "category", categoryorder: "array", categoryarray: workers.map((w) => label(w, 26)).reverse() }, margin: { l: 90, r: 10, t: 40, b: 46 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" } },
  (point) => chooseEnd(point.customdata),
  (point) => { const i = point.customdata; return [named(i), `worker ${N[T.worker[i]]}`, `${T.seconds[i].toFixed(1)} s` + (S.status(i) === "done" ? "" : ", " + S.status(i)), `${T.known[i]} of ${T.asked[i]} questions known before`]; });
  $("timeline-more").textContent = untold === 0 ? "" : `${untold} trials are not here, since their records do not say when they ran.`;
};

VIEWS.channels = () => {
  const layers = Object.keys(D.channels), states = D.frontier.length;
  if (!layers.length) { empty("channels", "No frontier state prunes a channel."); return empty("channels-bars", ""); }
  const most = Math.max(...layers.map((l) => D.channels[l].of));
  const z = layers.map((l) => { const row = Array.from({ length: most }, (_, k) => (k < D.channels[l].of ? 0 : null)); for (const [k, n] of D.channels[l].in) row[k] = n; return row; });
  const scheme = night.matches ? [[0, "#232b3d"], [0.5, "#7c7b78"], [1, "#fee838"]] : [[0, "#eef0f4"], [0.5, "#6d8fb8"], [1, "#00224e"]];
  draw("channels", [{ type: "heatmap", z, y: layers.map((l) => label(l, 26)), xgap: most > 200 ? 0 : 1, ygap: 3, zmin: 0, zmax: states, colorscale: scheme, hoverongaps: false,
    colorbar: { thickness: 12, tickformat: "d", nticks: 4, title: { text: "states", side: "right" } }, hovertemplate: "%{y}, channel %{x}: pruned in %{z} of " + states + "<extra></extra>" }],
    { height: 140 + 34 * layers.length, xaxis: { title: { text: "channel" } }, yaxis: { type: "category", autorange: "reversed" }, margin: { l: 90, r: 10, t: 10, b: 46 } },
    (point) => { $("channels-layer").value = "=" + layers[point.pointNumber ? point.pointNumber[0] : 0]; bars(); });
  const bars = () => {
    const layer = $("channels-layer").value.slice(1), found = D.channels[layer];
    draw("channels-bars", [{ type: "bar", x: found.in.map(([k]) => k), y: found.in.map(([, n]) => n), marker: { color: colour(0) }, hovertemplate: "channel %{x}: %{y} of " + states + "<extra></extra>" }],
      { height: 260, xaxis: { title: { text: "channel of " + label(layer) }, range: [-0.5, found.of - 0.5] }, yaxis: { title: { text: "frontier states" }, range: [0, states * 1.02], tickformat: "d" } });
  };
  $("channels-layer").onchange = bars;
  bars();
  const rows = layers.flatMap((l) => D.channels[l].in.map(([k, n]) => [l, k, n])).sort((a, b) => b[2] - a[2]).slice(0, 20);
  $("channels-table").tHead.replaceChildren(el("tr", {}, el("th", { class: "text" }, "layer"), el("th", {}, "channel"), el("th", {}, "frontier states")));
  $("channels-table").tBodies[0].replaceChildren(...rows.map(([l, k, n]) => el("tr", {}, el("td", { class: "text" }, l), el("td", {}, String(k)), el("td", {}, `${n} of ${states}`))));
  $("channels-note").textContent = "Of all frontier states; the filter does not apply here. What nearly all of them prune is what the backdoor most likely rests on."
    + (layers.every((l) => D.channels[l].counted) ? "" : " A layer may have more channels than are drawn: records only tell of those that were tried.");
};

VIEWS.distribution = () => {
  const name = $("distribution-x").value, outcome = OUTCOMES[name], others = Object.keys(D.others), by = $("distribution-by").value;
  const here = shown().filter((i) => outcome.of(i) !== null), column = { hypervolume: 0, best: 1 }[name];
  const groups = by === "" ? [[D.name, here.map(outcome.of)], ...others.filter(() => column !== undefined).map((o) => [o, D.others[o].map((v) => v[column])])]
    : distinct(S[by], here).sort(byNumber).map((v) => [v, here.filter((i) => S[by](i) === v).map(outcome.of)]);
  if (!here.length) return empty("distribution", "No trial that is shown is done.");
  draw("distribution", groups.filter(([, values]) => values.length).map(([words, values], k) => {
    const x = values.slice().sort((a, b) => a - b), n = x.length;
    return { x: [x[0], ...x], y: [0, ...x.map((_, j) => (j + 1) / n)], mode: "lines", name: `${label(words)} (${n} trials)`, line: { shape: "hv", width: 2.2, color: colour(k), dash: DASHES[k % 4] },
      hovertemplate: "%{y:.0%} of trials are at most %{x:.4f}<extra></extra>" };
  }), { height: 460, xaxis: { title: { text: outcome.name }, tickformat: outcome.format }, yaxis: { title: { text: "share of trials at or below" }, tickformat: ".0%", range: [0, 1.02] } });
  $("distribution-note").textContent = others.length ? "The filter applies to this sweep alone." + (column === undefined ? " Of other sweeps this outcome is not on the page." : "")
    : "There is no other sweep on this page; curves of settings can be compared by “split by”.";
};
