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

// Bars upon each other: each column with all that stand under it.
function piled(data) {
  const [at, ...columns] = data;
  const heights = columns.map((_, place) => at.map((_, row) => columns.slice(0, place + 1).reduce((sum, each) => sum + each[row], 0)));
  return [at, ...heights.reverse()];
}

const HEIGHT = 200;
const DAY = 86400;

function draw(place) {
  const table = document.getElementById(place.dataset.chart);
  if (!table || !window.uPlot) return;
  const { names, data } = figuresOf(table);
  const known = drawn.get(place);
  if (known) {
    place.figures = data;
    known.setData(piled(data));
    return;
  }
  place.hidden = false;
  place.figures = data;
  const step = data[0].length > 1 ? data[0][1] - data[0][0] : DAY;
  // In UTC, as every other time of the page.
  const said = (at) => new Date(at * 1000).toISOString();
  const time = (at) => (step < DAY ? said(at).slice(11, 16) : said(at).slice(5, 10));
  const quiet = colour("quiet");
  const axis = { stroke: quiet, grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), size: 5 } };
  const series = names.map(({ name, kind }, column) => ({
    label: name,
    stroke: colour(kind),
    fill: colour(kind),
    width: 0,
    points: { show: false },
    paths: window.uPlot.paths.bars({ size: [0.7, 48], align: 1 }),
    value: (_, __, ___, row) => {
      const figures = place.figures[column + 1];
      return row == null ? figures.reduce((sum, each) => sum + each, 0) : figures[row];
    },
  }));
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    tzDate: (at) => window.uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { range: (_, first, last) => [first, last + step] },
      y: { range: (_, least, most) => [0, Math.max(1, most)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 32, values: (_, splits) => splits.map(time) },
      { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7, 1e8], size: 56 },
    ],
    // What is highest is drawn first, and the others before it.
    series: [{ label: "UTC", value: (_, at) => (at == null ? "in all" : time(at)) }, ...series.reverse()],
  };
  drawn.set(place, new window.uPlot(options, piled(data), place));
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
  for (const [place, chart] of drawn) chart.setSize({ width: place.clientWidth, height: HEIGHT });
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
