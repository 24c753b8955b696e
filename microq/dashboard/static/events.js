// The list of events, the newest first.

import { $, el, keyed, set } from "./dom.js";
import { echoes, sentence } from "./telling.js";
import { SIGN, clock } from "./words.js";

const MOST = 300;
const marks = new WeakMap();
let next = 0;

const key = (event) => {
  if (!marks.has(event)) marks.set(event, (next += 1));
  return marks.get(event);
};

const TONE = { ready: "good", exited: "bad", fault: "bad", doubt: "wait", paused: "wait" };

const tone = (event) => (event.kind === "verdict" ? { pass: "good", fail: "bad" }[event.facts.verdict] ?? "wait" : TONE[event.kind]);

const make = (event) => {
  const scenario = event.topic === "scenario";
  const node = el("li", {}, el("time", { datetime: new Date(event.at * 1000).toISOString() }, clock(event.at, true)), " ",
    el("b", {}, `${SIGN[event.kind] ?? (scenario ? "⚑" : "·")} ${scenario ? event.name.replace(/^.*T[\d-]+-(?=[a-z])/, "") : event.name}`), " ",
    el("span", {}, sentence(event)));
  set(node, "data-tone", tone(event));
  return node;
};

/** Show the newest events of the chosen topic. */
export const show = (picture) => {
  const topic = $("topic").value;
  const chosen = picture.events.filter((event) => (!topic || event.topic === topic) && !echoes(event));
  keyed($("event-rows"), chosen.slice(-MOST).reverse(), key, make);
};

export const begin = (changed) => $("topic").addEventListener("change", changed);

