"use strict";
// What mattered: hypervolume as it grew, importance of settings, slices, parallel coordinates.
VIEWS.history = () => {
  const h = D.history, by = $("history-x").value, x = { trials: 0, clock: 1, spent: 2 }[by];
  const rows = h.filter((m) => m[x] !== null);
  if (!rows.length) return empty("history", h.length ? "The records do not say when the trials ran; those of earlier versions do not." : "No trial has ended yet.");
  const log = $("history-log").checked, scale = by === "trials" ? 1 : rows[rows.length - 1][x] > 7200 ? 3600 : 60, unit = scale === 1 ? "" : scale === 60 ? ", minutes" : ", hours";
  const title = { trials: "trials that have ended", clock: "time since the first trial began" + unit, spent: "time of all trials, summed" + unit }[by];
  draw("history", [{ x: rows.map((m) => m[x] / scale), y: rows.map((m) => m[3]), mode: rows.length > 200 ? "lines" : "lines+markers", name: "hypervolume",
    line: { shape: "hv", width: 2.5, color: colour(0) }, marker: { size: 5 }, hovertemplate: "%{x:.4~g}: %{y:.4f}<extra></extra>" }],
    { xaxis: { title: { text: title }, ...(log ? { type: "log" } : { rangemode: "tozero" }) }, yaxis: { title: { text: "hypervolume (up is better)" }, tickformat: ".3~f" } });
};

VIEWS.importance = () => {
  const place = $("importance"), names = { hypervolume: "Hypervolume of a trial's states", "attack within X": "Lowest attack success that a trial reaches within its X" };
  place.replaceChildren();
  if (D.importance.missing) return empty(place, "Importance is not worked out here: " + D.importance.missing + ".");
  D.importance.found.forEach((found) => {
    const words = `${found.trials} trials` + (found.stopped ? `, without the ${found.stopped} that were stopped: they lay behind, so a setting that often does may look better here than it is` : "") + (found.fits ? `; on trials not seen R² is ${found.fits[0].toFixed(3)} ± ${found.fits[1].toFixed(3)}` : "");
    const chart = el("div", { class: "chart", role: "img", "aria-label": "Importance of settings" });
    place.append(el("h2", {}, names[found.outcome]), el("p", { class: "small" }, words + "."), chart);
    if (found.why_not) return empty(chart, `Nothing can be said: ${found.why_not}.`);
    const rows = found.of.slice().reverse();
    draw(chart, [{ type: "bar", orientation: "h", y: rows.map((r) => r[0]), x: rows.map((r) => r[1]), marker: { color: colour(0) },
      error_x: { type: "data", array: rows.map((r) => r[2]), color: css("--ink"), thickness: 1.5 },
      hovertemplate: "%{y}: R² falls by %{x:.3f}<extra></extra>" }],
      { height: 90 + 36 * rows.length, margin: { l: 80, r: 16, t: 6, b: 44 }, xaxis: { title: { text: "fall of R² when it is shuffled" }, zeroline: true }, showlegend: false });
  });
};

VIEWS.slices = () => {
  const place = $("slices"), outcome = OUTCOMES[$("slices-y").value], list = shown().filter((i) => outcome.of(i) !== null);
  place.replaceChildren();
  for (const [name, words] of Object.entries(SETTINGS)) {
    const values = distinct(S[name], list).sort(byNumber);
    if (values.length < 2) continue;
    const chart = el("div", { class: "chart", role: "img", "aria-label": outcome.name + " by " + words });
    place.append(chart);
    draw(chart, values.slice().reverse().map((value) => {
      const mine = list.filter((i) => S[name](i) === value);
      return { type: "box", orientation: "h", name: label(value, 26), x: mine.map(outcome.of), customdata: mine, boxpoints: mine.length > 60 ? "outliers" : "all",
        jitter: 0.5, pointpos: 0, marker: { size: 4, color: colour(0), opacity: 0.6 }, line: { width: 1.5, color: colour(0) }, fillcolor: "rgba(0,0,0,0)", hoverinfo: "none" };
    }), { title: { text: words, font: { size: 14 }, x: 0, xref: "paper" }, showlegend: false, height: 110 + 34 * values.length, margin: { l: 60, r: 10, t: 34, b: 44 },
      xaxis: { title: { text: outcome.name }, tickformat: outcome.format }, yaxis: { type: "category" } },
    (point) => { if (typeof point.customdata === "number") chooseEnd(point.customdata); },
    (point) => (typeof point.customdata === "number" ? [named(point.customdata), `${outcome.name}: ${outcome.of(point.customdata).toFixed(4)}`] : null));
  }
  if (!place.children.length) empty(place, list.length ? "Every setting has one value alone among the trials shown." : "No trial that is shown is done.");
};
function chooseEnd(i) { const s = states(i); choose(i, s.step[s.step.length - 1], false); }

VIEWS.parallel = () => {
  const list = shown().filter((i) => T.hypervolume[i] !== null), outcome = OUTCOMES[$("parallel-by").value];
  if (!list.length) return empty("parallel", "No trial that is shown is done.");
  const axes = [], annotations = [], spread = (k) => ((k * 0.618034) % 1) - 0.5; // even, and the same every time
  for (const [name, words] of Object.entries(SETTINGS)) {
    const values = distinct(S[name], list).sort(byNumber);
    if (values.length < 2) continue;
    const room = 0.6 / values.length, at = new Map(values.map((v, k) => [v, values.length === 1 ? 0.5 : k / (values.length - 1)]));
    axes.push({ words, of: (i, k) => at.get(S[name](i)) * (1 - room) + room / 2 + spread(k) * room });
    const x = axes.length - 1;
    values.forEach((v) => annotations.push({ x, y: at.get(v) * (1 - room) + room / 2, text: label(v, 22), xanchor: "left", xshift: 6 }));
  }
  for (const one of Object.values(OUTCOMES)) {
    const of = list.map(one.of), low = Math.min(...of), high = Math.max(...of), span = high - low || 1;
    axes.push({ words: one.name, of: (i) => (one.of(i) - low) / span });
    const x = axes.length - 1, digits = one === OUTCOMES.hypervolume ? (v) => v.toFixed(3) : (v) => percent(v, 1);
    for (const y of [0, 0.5, 1]) annotations.push({ x, y, text: digits(low + y * span), xanchor: "left", xshift: 6 });
  }
  // Lines in ten shades of the outcome, as one trace each.
  const shades = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"]; // cividis
  if (night.matches) shades.splice(0, 4, "#4470c4", "#5879b5", "#6a80a6", "#7a8694");
  else shades.splice(8, 2, "#d0b840", "#d8b400");
  const of = list.map(outcome.of), low = Math.min(...of), high = Math.max(...of), bins = shades.map(() => ({ x: [], y: [], customdata: [] }));
  list.forEach((i, k) => {
    const bin = bins[Math.min(9, Math.floor((10 * (outcome.of(i) - low)) / (high - low || 1)))];
    axes.forEach((axis, x) => { bin.x.push(x); bin.y.push(axis.of(i, k)); bin.customdata.push(i); });
    bin.x.push(null); bin.y.push(null); bin.customdata.push(null);
  });
  // The best lie on top: high hypervolume and accuracy, low attack success.
  const traces = bins.map((bin, k) => ({ ...bin, mode: "lines", line: { width: 1.3, color: shades[k] }, opacity: list.length > 200 ? 0.55 : 0.8, hoverinfo: "none", showlegend: false }));
  if (outcome === OUTCOMES.best) traces.reverse();
  const ends = outcome === OUTCOMES.hypervolume ? [low.toFixed(3), high.toFixed(3)] : [percent(low, 1), percent(high, 1)];
  traces.push({ x: [null], y: [null], mode: "markers", hoverinfo: "skip", showlegend: false, marker: { color: [0], cmin: 0, cmax: 1, colorscale: shades.map((s, k) => [k / 9, s]),
    showscale: true, colorbar: { thickness: 12, len: 0.8, tickvals: [0, 1], ticktext: ends, title: { text: esc(outcome.name), side: "right" } } } });
  draw("parallel", traces, { height: 560, margin: { l: 20, r: 20, t: 50, b: 20 },
    xaxis: { range: [-0.08, axes.length - 0.55], showgrid: true, tickvals: axes.map((_, k) => k), ticktext: axes.map((a) => a.words.replace(/ (of|at|within) /, "<br>$1 ")), side: "top", zeroline: false, gridcolor: css("--soft") },
    yaxis: { range: [-0.05, 1.05], showticklabels: false, showgrid: false, zeroline: false },
    annotations: annotations.map((a) => ({ ...a, showarrow: false, font: { size: 11, color: css("--ink") }, bgcolor: css("--paper"), opacity: 0.85 })) },
  (point) => { if (typeof point.customdata === "number") chooseEnd(point.customdata); },
  (point) => (typeof point.customdata === "number" ? [named(point.customdata), ...Object.values(OUTCOMES).map((o) => `${o.name}: ${o.of(point.customdata).toFixed(4)}`)] : null));
};
