"use strict";
// Once, when the page is there.
options($("frontier-by"), [["procedure", "policy and repair"], ["order", "order"], ["layers", "layer set"], ["x", "X"], ["kind", "kind"]],
  distinct(S.procedure, all).length > 1 ? "procedure" : "order");
const told = D.history.some((m) => m[1] !== null);
options($("history-x"), [["trials", "trials"], ["clock", "the clock"], ["spent", "time of all trials"]], told ? "clock" : "trials");
const outcomes = Object.entries(OUTCOMES).map(([key, one]) => [key, one.name]);
for (const id of ["slices-y", "parallel-by", "distribution-x"]) options($(id), outcomes, "hypervolume");
const settings = Object.entries(SETTINGS).filter(([name]) => distinct(S[name], all).length > 1);
options($("distribution-by"), [["", "sweep"], ...settings], Object.keys(D.others).length || !settings.length ? "" : settings[0][0]);
options($("channels-layer"), Object.keys(D.channels).map((l) => ["=" + l, short(l, 60)]), null);
for (const [id, view] of [["frontier-by", "frontier"], ["history-x", "history"], ["history-log", "history"], ["slices-y", "slices"], ["parallel-by", "parallel"], ["distribution-x", "distribution"], ["distribution-by", "distribution"]])
  $(id).addEventListener("change", () => VIEWS[view]());
makeFilters();
makeTabs();
makeTable();
makeDetail();
// plotly.js stands in the page compressed. The table is there before it.
async function unpack() {
  const packed = Uint8Array.from(atob($("plotly").textContent), (c) => c.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}
unpack().then(() => {
  renew();
  night.addEventListener("change", () => { fresh.clear(); show(tab); redrawDetail(); });
  window.addEventListener("scroll", hideTip, { passive: true });
  document.documentElement.dataset.ready = Math.round(performance.now());
}, () => { $("told").textContent = "The pictures need a browser of 2023 or later."; });
