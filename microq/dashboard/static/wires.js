// The wires of the topology: paths between boxes, measured on the page, thick and moving where messages flow.

import { draw, keyed, put, set } from "./dom.js";
import { rate } from "./words.js";

const NARROW = 700;

const find = (map, name) =>
  name.endsWith("*")
    ? map.querySelector(`[data-lane="${name.slice(0, -1)}"]`)
    : map.querySelector(`.box[data-name="${CSS.escape(name)}"]`);

const box = (node, origin) => {
  const rect = node.getBoundingClientRect();
  return {
    left: rect.left - origin.left, right: rect.right - origin.left, top: rect.top - origin.top,
    bottom: rect.bottom - origin.top, x: (rect.left + rect.right) / 2 - origin.left, y: (rect.top + rect.bottom) / 2 - origin.top,
  };
};

/** A wire to a frame stays level if the frame is tall enough; a wire to a box ends at its middle. */
const sideways = (a, b, frame, share) => {
  const y = frame ? Math.max(b.top + 14, Math.min(a.y, b.bottom - 14)) : b.y;
  const [x1, y1, x2, y2] = [a.right, a.y, b.left - 5, y];
  const bend = Math.max(18, (x2 - x1) / 2);
  return { d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, x: (x1 + x2) / 2, y: y1 + (y2 - y1) * share, level: Math.abs(y2 - y1) < 12 };
};

const down = (a, b) => {
  const x = Math.max(b.left + 12, Math.min(a.x, b.right - 12));
  const [y1, y2] = [a.bottom, b.top - 5];
  const bend = (y2 - y1) / 2;
  return { d: `M${a.x} ${y1} C${a.x} ${y1 + bend} ${x} ${y2 - bend} ${x} ${y2}`, x: (a.x + x) / 2, y: (y1 + y2) / 2 };
};

/** A wire along a margin of the page; `side` is -1 for the left margin, 1 for the right one. */
const around = (a, b, side, width) => {
  const from = side < 0 ? a.left : a.right;
  const to = side < 0 ? b.left - 5 : b.right + 5;
  const edge = side < 0 ? 5 : width - 5;
  const turn = side * -7;
  const way = b.y > a.y ? 1 : -1;
  return {
    d: `M${from} ${a.y} H${edge + turn} Q${edge} ${a.y} ${edge} ${a.y + 7 * way} V${b.y - 7 * way} Q${edge} ${b.y} ${edge + turn} ${b.y} H${to}`,
    x: edge, y: (a.y + b.y) / 2, bare: true,
  };
};

/** A wire from a primary to a copy, along the inside of their frame. */
const copied = (a, b) => {
  const out = a.right + 13;
  return { d: `M${a.right} ${a.y} C${out + 8} ${a.y} ${out + 8} ${b.y} ${b.right + 5} ${b.y}`, x: out, y: (a.y + b.y) / 2, bare: true };
};

const path = ({ from, to, kind }, a, b, width) => {
  if (kind === "copy") return copied(a, b);
  if (width >= NARROW) return from.endsWith("*") || b.left > a.right + 12 ? sideways(a, b, to.endsWith("*"), to.startsWith("messages") ? 0.8 : 0.5) : down(a, b);
  if (from === "client" || to === "logging*") return down(a, b);
  if (from.startsWith("logging")) return down(a, b);
  return to.startsWith("messages") ? around(a, b, 1, width) : around(a, b, -1, width);
};

const thickness = (flow) => (flow > 0 ? Math.min(6, 1.6 + Math.log10(1 + flow) * 1.3) : 1.3);

const make = () => draw("g", {}, draw("path", { class: "wire" }), draw("text", { "text-anchor": "middle" }, draw("tspan"), draw("tspan", { dy: "1.15em" })));

/** Draw the wires; only those that moved change. */
export const route = (map, svg, streams) => {
  const origin = map.getBoundingClientRect();
  set(svg, "width", Math.round(origin.width));
  set(svg, "height", Math.round(origin.height));
  const places = new Map();
  const place = (name) => {
    if (!places.has(name)) {
      const node = find(map, name);
      places.set(name, node ? box(node, origin) : null);
    }
    return places.get(name);
  };
  const known = streams.filter(({ from, to }) => place(from) && place(to));
  keyed(svg, known, ({ from, to, kind }) => `${from} ${to} ${kind}`, make, (group, stream) => {
    const found = path(stream, place(stream.from), place(stream.to), origin.width);
    const [line, text] = group.children;
    const flowing = stream.rate > 0;
    set(line, "d", found.d);
    set(line, "data-kind", stream.kind ?? "work");
    set(line, "data-flows", flowing ? "yes" : null);
    set(line, "stroke-width", thickness(stream.rate ?? 0).toFixed(1));
    const words = found.bare || !stream.label ? ["", ""] : [stream.label, stream.rate == null ? "" : rate(stream.rate)];
    put(text.firstChild, words[0]);
    put(text.lastChild, words[1]);
    // Beside a level wire, the words stand above it and below it.
    set(text, "y", Math.round(found.y - (found.level ? 8 : 3)));
    set(text.lastChild, "dy", found.level ? "2.1em" : "1.15em");
    for (const span of text.children) set(span, "x", Math.round(found.x));
  });
};
