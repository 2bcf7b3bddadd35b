// Draws each table that a [data-chart] names, and again when its figures change. The table stays for whoever wants it.
"use strict";

const drawn = new Map();

function figuresOf(table) {
  const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => ({ name: cell.textContent, kind: cell.className }));
  const rows = [...table.tBodies[0].rows];
  const at = rows.map((row) => Date.parse(row.cells[0].dataset.at) / 1000);
  const columns = names.map((_, place) => rows.map((row) => Number(row.cells[place + 1].textContent.replaceAll(",", ""))));
  return { names, data: [at, ...columns] };
}

function colour(kind) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue("--" + kind.replace("state-", "")).trim() || style.color;
}

function draw(place) {
  const table = document.getElementById(place.dataset.chart);
  if (!table || !window.uPlot) return;
  const { names, data } = figuresOf(table);
  const known = drawn.get(place);
  if (known) {
    known.setData(data);
    return;
  }
  place.hidden = false;
  const quiet = colour("quiet");
  const axis = { stroke: quiet, grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const series = names.map(({ name, kind }) => ({ label: name, stroke: colour(kind), width: 2, points: { size: 5 } }));
  const options = {
    width: place.clientWidth,
    height: 200,
    scales: { y: { range: (_, least, most) => [0, Math.max(1, most)] } },
    axes: [axis, axis],
    series: [{}, ...series],
  };
  drawn.set(place, new window.uPlot(options, data, place));
  const figures = place.parentNode.querySelector("[data-open-without-script]");
  if (figures && !figures.dataset.folded) {
    figures.open = false;
    figures.dataset.folded = "yes";
  }
}

function drawAll() {
  for (const place of drawn.keys()) if (!place.isConnected) drawn.delete(place);
  document.querySelectorAll("[data-chart]").forEach(draw);
}

function redraw() {
  for (const chart of drawn.values()) chart.destroy();
  drawn.clear();
  drawAll();
}

document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("htmx:after:swap", drawAll);
window.addEventListener("resize", () => {
  for (const [place, chart] of drawn) chart.setSize({ width: place.clientWidth, height: 200 });
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
