// The topology: a box for each process, wires between the boxes, and the number of messages and copies in each.

import { $, el, keyed, put, set } from "./dom.js";
import { depth, servers } from "./telling.js";
import { SIGN, UP, ago, count, list, mebibytes, plural, rate, state } from "./words.js";
import { route } from "./wires.js";

const LANES = [
  { key: "client", title: "Clients" },
  { key: "facade", title: "Facade" },
  { key: "logging", title: "Logging-services" },
  { key: "queue", title: "" },
  { key: "map", title: "Hazelcast: log map" },
  { key: "messages", title: "Messages-services" },
  { key: "config", title: "Configuration" },
];

const CLIENT = { name: "client", role: "client", state: "ready" };

const laneOf = (process) => (process.role === "maps" ? "map" : process.role);

const bar = (kind) => el("span", { class: "bar" }, el("span", { class: "track-of" }, el("i", { class: `fill ${kind}` })), el("span", { class: "amount" }));

const make = (opens) => ({ process }) => {
  const node = el("button", { type: "button", class: "box", "data-name": process.name },
    el("span", { class: "head" }, el("span", { class: "name" }, el("span", { class: "sign", "aria-hidden": "true" }), el("span", { class: "called" })), el("span", { class: "state" })),
    el("span", { class: "role" }), bar("own"), bar("copy"), el("span", { class: "note" }));
  if (process === CLIENT) node.disabled = true;
  else node.addEventListener("click", () => opens(process.name, node));
  const part = (name) => node.querySelector(name);
  node.parts = { sign: part(".sign"), title: part(".called"), state: part(".state"), role: part(".role"),
    own: node.querySelectorAll(".bar")[0], copy: node.querySelectorAll(".bar")[1], note: part(".note") };
  return el("li", {}, node);
};

const level = (node, value, most, text) => {
  node.hidden = text == null;
  if (text == null) return;
  set(node, "data-none", value ? null : "yes");
  node.firstChild.firstChild.style.width = `${most ? Math.min(100, (100 * value) / most) : 0}%`;
  put(node.lastChild, text);
};

/** Show a server of the queue: its items, its copies, the partitions that it leads. */
const server = (parts, { process, figures, last, owns }, most, picture) => {
  const { apart, partitioned } = picture.frame;
  const role = owns ? (partitioned ? "★ leader" : "★ primary owner") : figures?.backups ? "holds copies" : "holds nothing now";
  const leads = figures?.leads?.length ? ` of ${plural(figures.leads.length, "partition")}: ${figures.leads.join(", ")}` : "";
  put(parts.role, figures ? role + leads : "figures: n/a");
  level(parts.own, figures?.items ?? 0, most, figures?.items != null ? plural(figures.items, "message") : null);
  const follows = figures?.follows?.length ? ` (partition ${figures.follows.join(", ")})` : "";
  level(parts.copy, figures?.backups ?? 0, most, figures?.backups != null ? plural(figures.backups, "copy", "copies") + follows : null);
  const seen = last ?? null;
  if (!figures) {
    put(parts.note, seen ? `last seen ${ago(picture.now - seen.taken_at)}: ${plural(seen.items, "message")}, ${plural(seen.backups, "copy", "copies")}` : "");
  } else {
    put(parts.note, apart ? mebibytes(process.rss) : `log map: ${count(figures.log_entries)} + ${plural(figures.log_backups, "copy", "copies")}`);
  }
};

const keeper = (parts, process, figures) => {
  put(parts.role, "");
  put(parts.note, figures ? `log map: ${count(figures.log_entries)} + ${plural(figures.log_backups, "copy", "copies")}` : "figures: n/a");
};

const VERB = { facade: "accepts", logging: "logs", messages: "receives" };

const service = (parts, process, picture) => {
  if (!UP.has(process.state)) {
    put(parts.role, VERB[process.role] ? "does not run" : "");
    return put(parts.note, "");
  }
  const held = { messages: "holds", logging: "stored" }[process.role];
  const verb = VERB[process.role];
  put(parts.role, verb ? `${verb} ${rate(picture.point?.rates?.[process.name])}` : "");
  const entries = process.held == null ? "" : held ? `${held} ${plural(process.held, process.role === "logging" ? "entry" : "message", process.role === "logging" ? "entries" : undefined)}` : "";
  put(parts.note, entries);
};

const update = (picture, all, most) => (item, { process }) => {
  const node = item.firstChild;
  const { parts } = node;
  const mine = all.find((each) => each.process.name === process.name);
  set(node, "data-state", process.state);
  set(node, "data-owner", mine?.owns && UP.has(process.state) ? "yes" : null);
  put(parts.sign, process === CLIENT ? "▷" : SIGN[process.state]);
  put(parts.title, process === CLIENT ? "clients" : process.name);
  put(parts.state, process === CLIENT ? "" : state(process));
  if (mine) return server(parts, mine, most, picture);
  parts.own.hidden = parts.copy.hidden = true;
  if (process === CLIENT) return put(parts.role, rate(picture.point?.accepted));
  if (process.role === "maps") return keeper(parts, process, picture.frame.members.find((each) => each.name === process.name));
  return service(parts, process, picture);
};

const lane = (key) => el("section", { class: "lane", "data-lane": key }, el("h3"), el("ul"));

/** Return the streams between processes, with their rates; `kind` is work or copy. */
const streams = (picture, all) => {
  const { frame, point } = picture;
  const up = (role) => frame.processes.filter((process) => process.role === role && UP.has(process.state));
  const rates = point?.rates ?? {};
  const owners = all.filter((each) => each.owns && UP.has(each.process.state)).map((each) => each.process.name);
  const target = owners.length ? owners : [null];
  const found = [];
  for (const facade of up("facade")) {
    found.push({ from: "client", to: facade.name, rate: point?.accepted, label: "send" });
    for (const owner of target) found.push({ from: facade.name, to: owner ?? "queue*", rate: (point?.accepted ?? 0) / target.length, label: owner === target[0] ? "put" : null });
    found.push({ from: facade.name, to: "logging*", rate: point?.accepted, label: "log" });
  }
  const logs = up("logging").reduce((sum, process) => sum + (rates[process.name] ?? 0), 0);
  found.push({ from: "logging*", to: frame.apart ? "map*" : "queue*", rate: logs, label: "store" });
  for (const consumer of up("messages")) {
    const sources = frame.partitions.filter((each) => each.consumer === consumer.name && each.leader).map((each) => each.leader);
    const from = sources.length ? [...new Set(sources)] : target;
    for (const owner of from) found.push({ from: owner ?? "queue*", to: consumer.name, rate: (rates[consumer.name] ?? 0) / from.length, label: owner === from[0] ? "take" : null });
  }
  if (owners.length === 1) {
    for (const { process, figures, owns } of all) {
      if (!owns && figures && picture.frame.queue?.backup_count) found.push({ from: owners[0], to: process.name, kind: "copy", rate: point?.accepted });
    }
  }
  return found;
};

/** Return the function that draws the topology; `opens(name, button)` shows the details of a process. */
export const topology = (opens) => {
  const map = $("map");
  const wires = $("wires");
  const making = make(opens);
  let last = null;
  const again = () => last && route(map, wires, last);
  new ResizeObserver(again).observe(map);

  return (picture) => {
    const { frame } = picture;
    if (!frame) return;
    const all = servers(frame);
    const most = Math.max(1, depth(frame) ?? 0, ...all.flatMap(({ figures }) => (figures ? [figures.items, figures.backups] : [])));
    const groups = new Map(LANES.map(({ key }) => [key, []]));
    groups.get("client").push({ process: CLIENT });
    for (const process of frame.processes) groups.get(laneOf(process))?.push({ process });
    const shown = LANES.filter(({ key }) => groups.get(key).length);
    set(map, "data-apart", frame.apart ? "yes" : null);
    keyed(map.lanes ??= map.appendChild(el("div", { class: "lanes" })), shown, ({ key }) => key, ({ key }) => lane(key), (node, { key, title }) => {
      put(node.firstChild, key === "queue" ? `${frame.words.product}: ${frame.apart ? "queue" : "queue and log map"}` : title);
      keyed(node.lastChild, groups.get(key), ({ process }) => process.name, making, update(picture, all, most));
    });
    last = streams(picture, all);
    again();
    const owners = list(frame.owners ?? []);
    set(map, "aria-label", owners ? `Primary on ${owners}` : null);
  };
};

