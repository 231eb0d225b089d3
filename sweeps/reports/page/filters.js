"use strict";
// The filter over all views, and the tabs.
const FILTERS = { order: "Order", layers: "Layers", x: "X", policy: "Policy", repair: "Repair", kind: "Kind" };
const chosen = {};
const all = Array.from({ length: TRIALS }, (_, i) => i);
function shown() {
  return all.filter((i) => Object.entries(chosen).every(([name, value]) => String(S[name](i)) === value));
}
const filtered = () => Object.keys(chosen).length > 0;

const VIEWS = {}; // name -> what draws it
const TABS = {
  frontier: "Frontier", trials: "Trials", history: "Hypervolume", importance: "Importance", slices: "Slices",
  parallel: "Parallel", timeline: "Timeline", channels: "Channels", distribution: "Distribution",
};
let tab = "frontier";
const fresh = new Set();

function show(name, focus = false) {
  tab = name;
  for (const other of Object.keys(TABS)) {
    const on = other === name, button = $("tab-" + other);
    button.setAttribute("aria-selected", on);
    button.tabIndex = on ? 0 : -1;
    $("panel-" + other).hidden = !on;
    if (on && focus) button.focus();
  }
  hideTip();
  if (!fresh.has(name)) { fresh.add(name); VIEWS[name](); }
}
function renew() { fresh.clear(); tell(); show(tab); }

function tell() {
  const words = [`${shown().length} of ${TRIALS} trials shown.`], told = D.told;
  if (!told.masks) words.push("To keep the page small, masks are shown for frontier states only.");
  if (told.kept < told.states) words.push(`Of ${told.states.toLocaleString("en")} accepted states ${told.kept.toLocaleString("en")} are on the page, all frontier states among them; the records have the rest.`);
  $("told").textContent = words.join(" ");
}

function makeFilters() {
  const form = $("filters");
  for (const [name, words] of Object.entries(FILTERS)) {
    const values = distinct(S[name], all).sort(byNumber);
    const select = el("select", { id: "filter-" + name, onchange: () => {
      if (select.value === "") delete chosen[name]; else chosen[name] = select.value.slice(1);
      renew();
    } });
    options(select, [["", "all"], ...values.map((v) => ["=" + v, short(String(v), 60)])], "");
    form.append(el("label", {}, words, select));
  }
  if (triggers > 1) {
    const select = el("select", { id: "filter-trigger", onchange: () => {
      trigger = select.value === "" ? null : Number(select.value);
      renew(); redrawDetail();
    } });
    options(select, [["", "the worst"], ...Array.from({ length: triggers }, (_, k) => [String(k), String(k + 1)])], "");
    form.append(el("label", {}, "Trigger", select));
  }
  form.append(el("button", { type: "button", id: "filter-none", onclick: () => {
    for (const name of Object.keys(chosen)) delete chosen[name];
    trigger = null;
    for (const select of form.querySelectorAll("select")) select.value = "";
    renew(); redrawDetail();
  } }, "Clear"));
}

function makeTabs() {
  const names = Object.keys(TABS);
  for (const name of names) {
    $("tabs").append(el("button", { type: "button", role: "tab", id: "tab-" + name, "aria-controls": "panel-" + name, onclick: () => show(name) }, TABS[name]));
  }
  $("tabs").addEventListener("keydown", (event) => {
    const at = names.indexOf(tab), to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(names[(to + names.length) % names.length], true);
  });
}
