// The tables of the servers, the partitions and the processes.

import { $, el, keyed, put, set } from "./dom.js";
import { servers } from "./telling.js";
import { NOTHING, SIGN, UNKNOWN, UP, ago, count, duration, mebibytes, percent, plural, state } from "./words.js";

const heap = (figures) => `${Math.round(figures.heap_used / 1048576)} of ${mebibytes(figures.heap_max)}`;

const QUEUE = [
  ["Messages (primary)", (f) => count(f.items)],
  ["Copies (backups)", (f) => count(f.backups)],
];

/** The figures of a Hazelcast member. */
const MEMBER = [
  ["Oldest message", (f) => duration(f.oldest)],
  ["Log map: owned", (f) => count(f.log_entries)],
  ["Log map: copies", (f) => count(f.log_backups)],
  ["Partitions owned", (f) => count(f.partitions)],
  ["Clients", (f) => count(f.clients)],
  ["Heap", heap],
  ["Garbage collections", (f) => `${count(f.gc_count)} in ${duration(f.gc_seconds)}`],
];

const BROKER = [
  ["Leads partitions", (f) => f.leads?.join(", ") || NOTHING],
  ["Follows in sync", (f) => f.follows?.join(", ") || NOTHING],
];

const CLUSTER = [
  ["Servers it sees", (f) => count(f.members_seen)],
  ["Copying finished", (f) => (f.cluster_safe ? "✓ yes" : "! no")],
];

/** Return the lines of one kind of server. */
export const lines = (apart, queue = true) => [...(queue ? QUEUE : []), ...(apart ? BROKER : queue ? MEMBER : MEMBER.slice(1)), ...CLUSTER];

const seen = (last, now) => (last ? `last seen ${ago(now - last.taken_at)}: ${plural(last.items, "message")}, ${plural(last.backups, "copy", "copies")}` : "");

/** Fill a table whose columns are servers; three columns fit the smallest screen. */
const across = (table, columns, rows, cell) => {
  table.head ??= table.appendChild(el("thead")).appendChild(el("tr"));
  table.rowsOf ??= table.appendChild(el("tbody"));
  keyed(table.head, [{ name: "" }, ...columns], (each) => each.name, () => el("th", { scope: "col" }), (node, each) => {
    put(node, each.title ?? "");
    set(node, "data-state", each.state);
  });
  keyed(table.rowsOf, rows, ([name]) => name, () => el("tr"), (row, each) => {
    keyed(row, [{ name: "" }, ...columns], (column) => column.name, ({ name }) => (name ? el("td", { class: "number" }) : el("th", { scope: "row" })), (node, column) => {
      put(node, column.name ? cell(column, each) : each[0]);
    });
  });
};

const column = (picture) => ({ process, figures, last, owns }) => ({
  process, figures, last, name: process.name, state: process.state,
  title: `${owns && UP.has(process.state) ? "★ " : ""}${process.name}`,
  cpu: UP.has(process.state) ? percent(picture.point?.cpu?.[process.name]) : UNKNOWN,
});

const cell = (now) => (each, [name, tell]) => {
  if (name === "State") return `${SIGN[each.state]} ${state(each.process)}`;
  if (name === "Memory") return UP.has(each.state) ? mebibytes(each.process.rss) : UNKNOWN;
  if (name === "CPU, of one core") return each.cpu;
  if (name === "Figures taken") return each.figures ? ago(now - each.figures.taken_at) : seen(each.last, now) || UNKNOWN;
  return each.figures ? tell(each.figures) : UNKNOWN;
};

const figuresTable = (table, all, figures, picture) =>
  across(table, all.map(column(picture)), [["State"], ...figures, ["Memory"], ["CPU, of one core"], ["Figures taken"]], cell(picture.now));

const figuresTables = (picture) => {
  const { frame } = picture;
  figuresTable($("server-table"), servers(frame), lines(frame.apart), picture);
  $("keepers-part").hidden = !frame.apart;
  if (!frame.apart) return;
  const keepers = frame.processes.filter((process) => process.role === "maps").map((process) => ({
    process, figures: frame.members.find((each) => each.name === process.name) ?? null, last: null, owns: false,
  }));
  figuresTable($("keeper-table"), keepers, lines(false, false), picture);
};

const flat = (table, heads, items, key, cells) => {
  if (!table.rowsOf) {
    table.append(el("thead", {}, el("tr", {}, ...heads.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name)))));
    table.rowsOf = table.appendChild(el("tbody"));
  }
  keyed(table.rowsOf, items, key, () => el("tr", {}, ...heads.map(([, number], place) => el(place ? "td" : "th", { class: number ? "number" : null, scope: place ? null : "row" }))), (row, item) => {
    cells(item).forEach((text, place) => put(row.children[place], text));
    set(row, "data-state", item.state);
  });
};

const partitionTable = (picture) => {
  const { partitions } = picture.frame;
  $("partitions-part").hidden = !partitions.length;
  const heads = [["Partition"], ["Leader"], ["In sync"], ["Copies"], ["Waiting", true], ["Consumer"]];
  flat($("partition-table"), heads, partitions, (each) => each.number, (each) => [
    each.number, each.leader ? `★ ${each.leader}` : "✗ none", each.in_sync.join(", ") || "none",
    each.in_sync.length < each.replicas ? `! under-replicated: ${each.in_sync.length} of ${each.replicas}` : `✓ ${each.in_sync.length} of ${each.replicas}`,
    count(each.waiting), each.consumer ?? NOTHING,
  ]);
};

const processTable = (picture) => {
  const heads = [["Process"], ["State"], ["Pid", true], ["Restarts", true], ["Memory", true], ["CPU", true], ["Holds", true]];
  flat($("process-table"), heads, picture.frame.processes, (each) => each.name, (each) => [
    each.name, `${SIGN[each.state]} ${state(each)}`, each.pid ?? NOTHING, each.restarts, mebibytes(each.rss),
    UP.has(each.state) ? percent(picture.point?.cpu?.[each.name]) : UNKNOWN, each.held == null ? NOTHING : count(each.held),
  ]);
};

/** Show the tables. */
export const tabulate = (picture) => {
  if (!picture.frame) return;
  figuresTables(picture);
  partitionTable(picture);
  processTable(picture);
};
