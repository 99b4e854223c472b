// Refreshes what changes. The page is complete without this file.
"use strict";

const EVERY_MS = 2000;
const HOURS = 24;
const INKS = ["#2f6fd0", "#c2571a", "#2b8a57", "#8a4fbf", "#b8336a"];
const charts = new Map(); // model -> {element, plot}

const board = document.getElementById("board");
const lost = document.getElementById("lost");
const said = document.getElementById("said");

async function refresh() {
  try {
    const answer = await fetch("/board", { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    replaceSections([...fresh.body.children]);
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
  setTimeout(refresh, document.hidden ? 5 * EVERY_MS : EVERY_MS);
}

// Section by section, and only where the text has changed, so that a selection, the focus and the
// place in a wide table stay where they are.
function replaceSections(fresh) {
  const wanted = new Set(fresh.map((section) => section.id));
  for (const old of [...board.children]) if (!wanted.has(old.id)) old.remove();
  let before = null;
  for (const section of fresh) {
    const old = document.getElementById(section.id);
    if (old && !differs(old, section)) { before = old; continue; }
    announce(old, section);
    const scrolled = old ? [...old.querySelectorAll(".scroll")].map((e) => e.scrollLeft) : [];
    const focus = old && old.contains(document.activeElement) ? labelOf(document.activeElement) : null;
    const node = document.adoptNode(section);
    keepCharts(node);
    if (old) old.replaceWith(node);
    else if (before) before.after(node);
    else board.prepend(node);
    node.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
    if (focus) node.querySelector(`[aria-label="${CSS.escape(focus)}"]`)?.focus();
    before = node;
  }
}

function differs(old, section) {
  const bare = old.cloneNode(true);
  bare.querySelectorAll(".chart").forEach((e) => e.replaceChildren());
  return bare.innerHTML !== section.innerHTML;
}

function labelOf(element) { return element.getAttribute("aria-label"); }

// For those who listen instead of looking: the newest decision only.
function announce(old, section) {
  if (section.id !== "decisions" || !old) return;
  const newest = section.querySelector("li span")?.textContent;
  if (newest && newest !== old.querySelector("li span")?.textContent) said.textContent = newest;
}

function keepCharts(node) {
  node.querySelectorAll(".chart").forEach((place) => {
    const known = charts.get(place.dataset.model);
    if (known) place.replaceWith(known.element);
  });
}

async function drawCharts() {
  for (const place of document.querySelectorAll(".chart")) {
    try {
      const query = new URLSearchParams({ model: place.dataset.model, hours: HOURS, top: INKS.length });
      const answer = await fetch(`/api/v1/prices?${query}`, { cache: "no-store" });
      if (answer.ok) draw(place, await answer.json());
    } catch { /* the next round tries again; refresh() says that there is no answer */ }
  }
  setTimeout(drawCharts, 5 * EVERY_MS);
}

function draw(place, history) {
  if (history.t.length < 2) return;
  const model = place.dataset.model;
  const labels = history.series.map((one) => one.label).join("|");
  const data = [history.t, ...history.series.map((one) => one.usd_hour)];
  const known = charts.get(model);
  if (known && known.labels === labels) { known.plot.setData(data); return; }
  if (known) known.plot.destroy();
  const ink = getComputedStyle(document.body).getPropertyValue("--quiet");
  const line = getComputedStyle(document.body).getPropertyValue("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const money = (value) => (value == null ? "–" : `$${value.toFixed(3)}`);
  const options = {
    width: Math.max(200, place.parentElement.clientWidth - 32),
    height: 160,
    tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
    axes: [{ ...axis, values: (_, marks, __, ___, step) => marks.map((t) => time(t, step)) }, { ...axis, size: 60, values: (_, marks) => marks.map((v) => `$${v}`) }],
    series: [
      { label: "UTC", value: (_, t) => (t == null ? "–" : time(t, 1)) },
      ...history.series.map((one, i) => ({
        label: one.label, stroke: INKS[i], width: 2, points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }), value: (_, value) => money(value),
      })),
    ],
  };
  charts.set(model, { element: place, labels, plot: new uPlot(options, data, place) });
}

// Time of day where the marks are close, the date with it where they are not.
function time(t, step) {
  const iso = new Date(t * 1000).toISOString();
  if (step < 60) return iso.slice(11, 19);
  return step < 43200 ? iso.slice(11, 16) : iso.slice(5, 10);
}

addEventListener("resize", () => {
  for (const { element, plot } of charts.values()) {
    plot.setSize({ width: Math.max(200, element.parentElement.clientWidth - 32), height: 160 });
  }
});
setTimeout(refresh, EVERY_MS);
drawCharts();
