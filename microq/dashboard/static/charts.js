// The charts: plotly's, loaded after the first paint, drawn at most once a second and only while they are on the screen.

import { $, seldom, set, watched } from "./dom.js";
import { marks } from "./telling.js";

const RECENT = 300;
const MOST_MARKS = 40;
const NARROW = 640;
const ROWS = [
  { title: "messages per second", lines: [["accepted", "accepted", "--c1", "solid"], ["delivered", "delivered", "--c2", "dash"]] },
  { title: "messages in the queue", lines: [["depth", "depth", "--c3", "solid"]] },
  { title: "latency, ms", lines: [["p50", "p50", "--c1", "solid"], ["p99", "p99", "--c4", "dash"]] },
  { title: "memory, MiB", lines: [] },
];
const GAP = 0.075;
const DASHES = ["solid", "dash", "dot", "dashdot"];

/** Return a colour of the page in a form that plotly reads. */
const colour = (() => {
  const probe = document.createElement("i");
  probe.hidden = true;
  return (name) => {
    if (!probe.parentNode) document.body.append(probe);
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
})();

const library = () =>
  new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/static/plotly.min.js";
    script.onload = resolve;
    script.onerror = () => reject(new Error("plotly"));
    document.head.append(script);
  });

const axis = (row) => (row ? String(row + 1) : "");

const traces = (points) => {
  const x = points.map((point) => new Date(point.at * 1000));
  const line = (row, name, y, color, dash, decimals) => ({
    type: "scatter", mode: "lines", name, x, y, xaxis: "x", yaxis: `y${axis(row)}`, legend: `legend${axis(row)}`, connectgaps: false,
    line: { color, dash, width: 2, shape: row === 1 ? "hv" : "linear" }, hovertemplate: `%{y:,.${decimals}f}`,
  });
  const scale = { p50: 1000, p99: 1000 };
  const found = ROWS.flatMap(({ lines }, row) =>
    lines.map(([key, name, color, dash]) =>
      line(row, name, points.map((point) => (point[key] == null ? null : point[key] * (scale[key] ?? 1))), colour(color), dash, row === 2 ? 1 : 0)));
  const names = [...new Set(points.flatMap((point) => Object.keys(point.memory ?? {})))].sort();
  names.forEach((name, place) => found.push(line(3, name, points.map((point) => (point.memory?.[name] == null ? null : point.memory[name] / 1048576)), colour(`--c${(place % 6) + 1}`), DASHES[Math.floor(place / 6) % 4], 0)));
  return found;
};

const placed = (found, width, from, to) => {
  // A label that would cover another one moves one line up; a label that needs a fourth line is left out.
  const ends = [-1e9, -1e9, -1e9];
  return found.map((mark) => {
    const x = ((mark.at - from) / Math.max(1, to - from)) * width;
    const line = ends.findIndex((end) => end < x);
    if (line >= 0) ends[line] = x + mark.label.length * 6.4 + 8;
    return { ...mark, line };
  });
};

const layout = (picture, span, width) => {
  const [from, to] = span;
  const grid = colour("--line");
  const height = (1 - 3 * GAP) / 4;
  const narrow = width < NARROW;
  const found = {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: colour("--text"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 52, r: 12, t: 84, b: narrow ? 28 : 76 }, height: 860, width, hovermode: "x unified", hoversubplots: "axis", showlegend: true, uirevision: "kept",
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: grid, font: { color: colour("--text") } }, dragmode: false,
    xaxis: { type: "date", range: [new Date(from * 1000), new Date(to * 1000)], gridcolor: grid, anchor: "y4", hoverformat: "%H:%M:%S", fixedrange: true, nticks: narrow ? 4 : 10 },
    shapes: [], annotations: [],
  };
  ROWS.forEach(({ title }, row) => {
    const top = 1 - row * (height + GAP);
    found[`yaxis${axis(row)}`] = { domain: [top - height, top], gridcolor: grid, rangemode: "tozero", zerolinecolor: grid, fixedrange: true, nticks: 5 };
    found[`legend${axis(row)}`] = { orientation: "h", x: 1, xanchor: "right", ...(row === 3 ? { y: -0.05, yanchor: "top" } : { y: top + 0.006, yanchor: "bottom" }), bgcolor: "transparent", font: { size: 11 }, visible: !(row === 3 && narrow) && row !== 1 };
    found.annotations.push({ text: `<b>${title}</b>`, x: 0, xref: "paper", xanchor: "left", y: top + 0.004, yref: "paper", yanchor: "bottom", showarrow: false });
  });
  const shown = marks(picture.events).filter((mark) => mark.at >= from && mark.at <= to).slice(-MOST_MARKS);
  for (const mark of placed(shown, width - 64, from, to)) {
    const color = colour(mark.fault ? "--bad" : "--wait");
    const x = new Date(mark.at * 1000);
    found.shapes.push({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color, width: 1.5, dash: mark.fault ? "solid" : "dot" } });
    if (mark.line >= 0) found.annotations.push({ text: `${mark.fault ? "⚑" : "✗"} ${mark.label.replace(/[<&]/g, "")}`, x, y: 1, yref: "paper", yanchor: "bottom", yshift: 20 + mark.line * 14, xanchor: x > new Date(((from + to) / 2) * 1000) ? "right" : "left", showarrow: false, font: { color, size: 11 } });
  }
  if (picture.mode === "replay" && picture.now) {
    const x = new Date(picture.now * 1000);
    found.shapes.push({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: colour("--accent"), width: 2 } });
  }
  return found;
};

/** Connect the part to the page; return the function that draws it again. */
export const charts = (picture) => {
  const node = $("charts");
  let whole = picture.mode === "replay";
  let ready = false;
  let loading = false;

  const redraw = () => {
    if (!ready || !picture.points.length || !sight.seen) return;
    const end = picture.mode === "replay" ? picture.points.at(-1).at : picture.now;
    const from = whole ? picture.points[0].at : Math.max(picture.points[0].at, end - RECENT);
    const points = picture.points.filter((point) => point.at >= from - 2);
    Plotly.react(node, traces(points), layout(picture, [from, Math.max(end, from + 10)], node.clientWidth), { displayModeBar: false, responsive: false });
  };
  const soon = seldom(1000, redraw);

  const load = async () => {
    if (loading) return soon();
    loading = true;
    try {
      await library();
      node.replaceChildren();
      ready = true;
      redraw();
    } catch {
      loading = false;
      node.firstElementChild.textContent = "The charts could not be loaded. Scroll away and back to try again.";
    }
  };
  const sight = watched(node, load);
  (window.requestIdleCallback ?? ((call) => setTimeout(call, 1500)))(load, { timeout: 4000 });

  const choose = (all) => {
    whole = all;
    set($("span-recent"), "aria-pressed", String(!all));
    set($("span-whole"), "aria-pressed", String(all));
    redraw();
  };
  $("span-recent").addEventListener("click", () => choose(false));
  $("span-whole").addEventListener("click", () => choose(true));
  addEventListener("theme", redraw);
  addEventListener("resize", soon);
  return { draw: soon, choose };
};
