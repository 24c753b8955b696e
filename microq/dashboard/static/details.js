// The details of one process: its figures, its actions, and its log, line by line.

import { act } from "./access.js";
import { $, el, keyed, put, set } from "./dom.js";
import { lines } from "./servers.js";
import { servers } from "./telling.js";
import { NOTHING, SIGN, UNKNOWN, UP, ago, count, duration, mebibytes, percent, rate, state } from "./words.js";

const MOST = 500;
const VERBS = { start: (s) => !UP.has(s), stop: (s) => UP.has(s), kill: (s) => UP.has(s), pause: (s) => s === "ready", resume: (s) => s === "paused", restart: (s) => UP.has(s) };
const DONE = { start: "started", stop: "stopped", kill: "killed", pause: "paused", resume: "resumed", restart: "restarted" };

const facts = (picture, process) => {
  const { frame, point } = picture;
  const up = UP.has(process.state);
  const found = [
    ["Address", process.address], ["Pid", process.pid ?? NOTHING], ["Restarts", process.restarts],
    ["Started", process.started_at ? ago(picture.now - process.started_at) : NOTHING],
    ["Memory", mebibytes(process.rss)], ["CPU, of one core", up ? percent(point?.cpu?.[process.name]) : UNKNOWN],
  ];
  if (process.held != null) found.push([process.role === "logging" ? "Entries" : "Messages held", count(process.held)]);
  if (point?.rates?.[process.name] != null) found.push(["Messages now", up ? rate(point.rates[process.name]) : UNKNOWN]);
  for (const [name, value] of Object.entries(process.counters ?? {})) found.push([name.replaceAll("_", " "), count(value)]);
  if (!["queue", "maps"].includes(process.role)) return found;
  const queue = servers(frame).find((each) => each.process.name === process.name);
  const figures = queue ? queue.figures : frame.members.find((each) => each.name === process.name);
  const last = frame.last?.[process.name];
  for (const [name, tell] of lines(frame.apart && Boolean(queue), Boolean(queue))) found.push([name, figures ? tell(figures) : UNKNOWN]);
  if (figures) found.push(["Figures taken", ago(picture.now - figures.taken_at)]);
  else if (last) found.push(["Last seen", `${ago(picture.now - last.taken_at)}: ${count(last.items)} messages, ${count(last.backups)} copies`]);
  return found;
};

const append = (log, text) => {
  const low = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  const level = /^\S+ (WARNING|ERROR|CRITICAL)/.exec(text)?.[1];
  log.append(el("li", { "data-level": level }, text));
  while (log.childElementCount > MOST) log.firstElementChild.remove();
  if (low) log.scrollTop = log.scrollHeight;
};

/** Connect the part to the page; return `open(name, from)` and `show()`. */
export const details = (picture) => {
  let name = null;
  let source = null;
  let from = null;

  const silence = () => {
    source?.close();
    source = null;
  };

  const listen = () => {
    silence();
    $("log").replaceChildren();
    const mine = new EventSource(`/api/logs/${encodeURIComponent(name)}`);
    source = mine;
    // A new connection sends the last lines again.
    mine.addEventListener("open", () => $("log").replaceChildren());
    mine.addEventListener("line", (message) => append($("log"), JSON.parse(message.data).line));
    mine.addEventListener("error", () => {
      if (mine.readyState === EventSource.CLOSED) setTimeout(() => source === mine && listen(), 2000);
    });
  };

  const close = () => {
    silence();
    name = null;
    $("drawer").hidden = true;
    from?.focus();
  };

  const perform = async (verb) => {
    const target = name;
    put($("drawer-answer"), `${verb} ${target} …`);
    try {
      await act("/api/process", { verb, names: [target] });
      if (name === target) put($("drawer-answer"), `${target} ${DONE[verb]}.`);
    } catch (error) {
      if (name === target) put($("drawer-answer"), error.message);
    }
  };

  $("drawer-verbs").append(...Object.keys(VERBS).map((verb) => el("button", { type: "button", "data-verb": verb, onclick: () => perform(verb) }, verb)));
  $("drawer-close").addEventListener("click", close);
  $("drawer").addEventListener("keydown", (event) => event.key === "Escape" && close());

  const show = () => {
    if (!name || !picture.frame) return;
    const process = picture.frame.processes.find((each) => each.name === name);
    if (!process) return;
    put($("drawer-state"), `${SIGN[process.state]} ${state(process)}${(picture.frame.owners ?? []).includes(name) ? " · ★ primary" : ""}`);
    set($("drawer-state"), "data-state", process.state);
    for (const button of $("drawer-verbs").children) button.disabled = !picture.access || picture.mode === "replay" || !VERBS[button.dataset.verb](process.state);
    keyed($("drawer-facts"), facts(picture, process), ([label]) => label, ([label]) => el("div", {}, el("dt", {}, label), el("dd")), (node, [, value]) => put(node.lastChild, value));
  };

  const open = (chosen, button) => {
    name = chosen;
    from = button;
    put($("drawer-name"), chosen);
    put($("drawer-answer"), picture.mode === "replay" ? "A finished run is read-only." : picture.access ? "" : "To act, open the address that `microq up` prints.");
    $("drawer").hidden = false;
    show();
    listen();
    $("drawer-name").focus();
  };
  return { open, show };
};
