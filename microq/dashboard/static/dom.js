// Elements are made once and changed in place. Data from outside is inserted as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
};

/** Make an element: `el("button", {class: "big", onclick: run}, "Run")`. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Make an element of a drawing. */
export const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Set the text of a node if it differs. */
export const put = (node, text) => {
  const wanted = text == null ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
};

const NAMES = /((?:★ )?\b[a-z]+-(?:\d+(?:\.\d+){3}-)?\d{2,5})\b/;

/** Set the text of a node; names of processes in it are bold and unbroken. */
export const say = (node, text) => {
  const wanted = text == null ? "" : String(text);
  if (node.textContent === wanted) return;
  node.replaceChildren(...wanted.split(NAMES).map((part, place) => (place % 2 ? el("b", { class: "whole" }, part) : part)));
};

/** Set an attribute if its value differs; null removes it. */
export const set = (node, name, value) => {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
};

/** Show a list in the order of the items; an item keeps its element. `make(item)` and `update(element, item)` fill it. */
export const keyed = (parent, items, key, make, update = () => {}) => {
  const old = parent.keyed ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    if (now.has(name)) continue;
    const node = old.get(name) ?? make(item);
    now.set(name, node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const [name, node] of old) if (now.get(name) !== node) node.remove();
  parent.keyed = now;
};

/** Return a function that calls `call` at most once in `wait` milliseconds, also for the last request. */
export const seldom = (wait, call) => {
  let last = 0;
  let timer = null;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      call();
    }, Math.max(0, last + wait - performance.now()));
  };
};

/** Watch whether a part of the page is on the screen or near it; `appears` is called when it comes into view. */
export const watched = (node, appears) => {
  const sight = { seen: false };
  new IntersectionObserver((entries) => {
    sight.seen = entries.at(-1).isIntersecting;
    if (sight.seen) appears();
  }, { rootMargin: "150px" }).observe(node);
  return sight;
};
