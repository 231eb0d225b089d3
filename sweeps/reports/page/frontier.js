"use strict";
// Clean accuracy against attack success: all states, the frontier on validation and on test, the BadNet.
const MANY = 3000; // accepted states; beyond, the trials are lines without dots
const PLACE = 1e6; // trial * PLACE + position of a state

VIEWS.frontier = () => {
  const by = $("frontier-by").value, list = shown().filter((i) => D.states[i] && S.status(i) !== "failed");
  const ink = css("--ink"), traces = [], total = list.reduce((n, i) => n + D.states[i].s.length, 0);
  const near = (D.range[1] - D.range[0]) / 120, groups = distinct(S[by], all).sort(byNumber);
  groups.forEach((group, k) => {
    const x = [], y = [], customdata = [];
    for (const i of list) {
      if (S[by](i) !== group) continue;
      const counts = states(i).counts, last = counts.length - 1;
      let px = NaN, py = NaN;
      counts.forEach((c, j) => {
        const cx = clean(c), cy = attack(c);
        // Of many states those that fall on the one before are not drawn.
        if (total > MANY && j && j !== last && Math.abs(cx - px) < near && Math.abs(cy - py) < 0.012) return;
        x.push(px = cx); y.push(py = cy); customdata.push(i * PLACE + j);
      });
      x.push(null); y.push(null); customdata.push(null);
    }
    if (!x.length) return;
    const legendgroup = "group " + k, line = { width: 1, color: colour(k), dash: dash(k) };
    traces.push({ x, y, customdata, legendgroup, line, mode: total > MANY ? "lines" : "lines+markers", showlegend: false,
      marker: { size: 5 }, opacity: list.length > 200 ? 0.3 : 0.42, hoverinfo: "none", connectgaps: false });
    traces.push({ x: [null], y: [null], legendgroup, name: `${SETTINGS[by] || "policy"} ${label(group)}`, mode: "lines",
      line: { ...line, width: 3 }, hoverinfo: "skip" }); // in the legend alone, where a thin line would not be seen
  });
  const points = D.frontier.filter((p) => p.trial !== null && list.includes(p.trial));
  const code = (p) => p.trial * PLACE + states(p.trial).step.indexOf(p.step);
  if (points.length) {
    const joined = { x: [], y: [] };
    for (const p of points) { joined.x.push(clean(p.valid), clean(p.test), null); joined.y.push(attack(p.valid), attack(p.test), null); }
    const symbol = points.map((p) => SYMBOLS[S.kind(p.trial)]), customdata = points.map(code);
    traces.push({ ...joined, mode: "lines", hoverinfo: "skip", opacity: 0.35, showlegend: false, line: { width: 1, color: ink }, legendgroup: "test" });
    // Steps, not slopes: between two states nothing better than the more accurate one was found.
    const whole = !filtered() && trigger === null;
    traces.push({ x: points.map((p) => clean(p.valid)), y: points.map((p) => attack(p.valid)), customdata, hoverinfo: "none",
      mode: whole ? "lines+markers" : "markers", name: "frontier, validation", line: { width: 3, color: ink, shape: "hv" },
      marker: { size: symbol.map((s) => (s === "circle" ? 9 : 12)), symbol, color: ink, line: { width: 1, color: css("--paper") } } });
    traces.push({ x: points.map((p) => clean(p.test)), y: points.map((p) => attack(p.test)), customdata, hoverinfo: "none",
      mode: "markers", name: "the same states, test", legendgroup: "test",
      marker: { size: 9, symbol, color: css("--paper"), line: { width: 1.6, color: ink } } });
  }
  if (filtered() || trigger !== null) traces.push(...ofTheShown(list));
  for (const [split, symbol] of [["valid", "diamond"], ["test", "diamond-open"]]) {
    const c = D.badnet[split];
    if (c) traces.push({ x: [clean(c)], y: [attack(c)], mode: "markers", name: "BadNet, " + (split === "valid" ? "validation" : "test"),
      cliponaxis: false, marker: { symbol, size: 13, color: night.matches ? "#FF7B72" : "#C1121F", line: { width: 2 } }, hoverinfo: "none", meta: split });
  }
  const shapes = [], annotations = [];
  if (D.badnet.valid) for (const x of distinct(S.x, list)) {
    const left = clean(D.badnet.valid) - x / 100;
    if (x <= 0 || left <= 0 || left < D.range[0]) continue;
    shapes.push({ type: "line", x0: left, x1: left, y0: 0, y1: 1, yref: "paper", line: { width: 1, dash: "dash", color: css("--soft") }, opacity: 0.6 });
    annotations.push({ x: left, y: 1, yref: "paper", yanchor: "bottom", text: `X = ${x}`, showarrow: false, font: { size: 11, color: css("--soft") } });
  }
  draw("frontier", traces, {
    height: 600, shapes, annotations, uirevision: "kept", legend: { orientation: "h", y: -0.12, x: 0.5, xanchor: "center" },
    xaxis: { title: { text: "Clean accuracy (right is better)" }, range: D.range, tickformat: D.range[1] - D.range[0] > 0.08 ? ".0%" : ".1%", zeroline: false },
    yaxis: { title: { text: "Attack success (down is better)" + (trigger === null ? "" : `, trigger ${trigger + 1}`) }, range: [-0.03, 1.05], tickformat: ".0%", zeroline: false },
  }, (point) => { const at = place(point); if (at) choose(at[0], states(at[0]).step[at[1]]); }, tipOf);
};

// The frontier of what the filter has left, as a dashed line.
function ofTheShown(list) {
  const points = [], codes = [];
  for (const i of list) states(i).counts.forEach((c, j) => { if (j) { points.push([clean(c), attack(c)]); codes.push(i * PLACE + j); } });
  const front = nonDominated(points);
  return front.length ? [{ x: front.map((k) => points[k][0]), y: front.map((k) => points[k][1]), customdata: front.map((k) => codes[k]),
    mode: "lines+markers", name: "frontier of what is shown", hoverinfo: "none", marker: { size: 7, symbol: "circle-open", color: css("--accent") },
    line: { width: 2, dash: "dash", color: css("--accent"), shape: "hv" } }] : [];
}
function place(point) {
  const code = point.customdata;
  return typeof code === "number" ? [Math.floor(code / PLACE), code % PLACE] : null;
}
function tipOf(point) {
  const at = place(point), split = point.data.meta;
  if (split) return ["BadNet, " + (split === "valid" ? "validation" : "test"), ...rateLines(D.badnet[split])];
  if (!at) return null;
  const [i, j] = at, s = states(i), p = frontierOf.get(i + " " + s.step[j]);
  return [named(i), `trial ${T.key[i]}, ` + (j ? `step ${s.step[j]}` : "the BadNet"), `channels pruned: ${s.pruned[j]}`,
    "Validation:", ...rateLines(s.counts[j]), ...(p ? ["Test:", ...rateLines(p.test)] : [])];
}
function rateLines(c) {
  const several = triggers > 1 && trigger === null ? ` (worst of ${triggers}: trigger ${worst(c) + 1})` : "";
  return [`clean accuracy ${within(c[0], c[1])}`, `attack success ${within(...attacked(c))}${several}`];
}
