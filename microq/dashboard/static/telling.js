// Sentences about the state of the system. Nothing here changes the page.

import { SIGN, UP, ago, count, list, plural, state } from "./words.js";

/** Return the servers of the queue: process, figures, last known figures, and whether it owns the queue. */
export const servers = (frame) => {
  const figures = frame.apart ? frame.brokers : frame.members;
  return frame.processes
    .filter((process) => process.role === "queue")
    .map((process) => ({
      process,
      // The figures of a process that has ended are not those of now.
      figures: UP.has(process.state) ? figures.find((each) => each.name === process.name) ?? null : null,
      last: frame.last?.[process.name] ?? null,
      owns: (frame.owners ?? []).includes(process.name),
    }));
};

/** Return the number of waiting messages; null if it is unknown. */
export const depth = (frame) => frame.queue?.size ?? null;

const copiesSentence = (owner, owned, holders) => {
  const whole = holders.filter((holder) => holder.backups >= owned).map((holder) => holder.name);
  const part = holders.filter((holder) => holder.backups < owned);
  const said = [];
  if (whole.length) said.push(`${list(whole)} ${whole.length === 1 ? "holds" : "hold"} a copy of ${owned === 1 ? "it" : "each"}`);
  if (part.length) said.push(list(part.map((holder) => `${holder.name} holds ${plural(holder.backups, "copy", "copies")}`)));
  return said.length ? said.join(", and ") : "no other server holds a copy";
};

const ownedSentence = (copies, was) => {
  const owners = copies.filter((each) => each.owned > 0);
  const total = owners.reduce((sum, each) => sum + each.owned, 0);
  if (!owners.length) return null;
  if (owners.length > 1) {
    const parts = list(owners.map((each) => `${count(each.owned)} on ★ ${each.name}`));
    const backed = copies.filter((each) => each.backups > 0).map((each) => each.name);
    return `${plural(total, "message")} ${was ? "were" : "are"} in the queue: ${parts}; ${
      backed.length ? `copies on ${list(backed)}` : "no copies anywhere"}.`;
  }
  const [owner] = owners;
  const holders = copies.filter((each) => each.backups > 0 && each !== owner);
  const verb = total === 1 ? (was ? "was" : "is") : was ? "were" : "are";
  const shown = copiesSentence(owner.name, owner.owned, holders);
  return `${plural(total, "message")} ${verb} on ★ ${owner.name} (the primary owner); ${was ? shown.replace(/\bholds?\b/g, "held") : shown}.`;
};

/** Say where the messages are now. */
export const whereNow = (frame) => {
  const known = servers(frame).filter((each) => each.figures && each.figures.items != null);
  if (!frame.managed) return "The servers of the queue run elsewhere; their copies cannot be seen from here.";
  if (!known.length) return "Unknown now: no server of the queue answers.";
  const copies = known.map(({ process, figures }) => ({ name: process.name, owned: figures.items, backups: figures.backups }));
  const shown = ownedSentence(copies, false);
  const answering = new Set(copies.map((each) => each.name));
  const orphans = frame.partitions.filter((each) => !answering.has(each.leader)).map((each) => each.number);
  const leaderless = orphans.length ? ` Partition ${list(orphans.map(String))} has no leader at this moment.` : "";
  if (shown) return shown + leaderless;
  const owners = frame.owners ?? [];
  const silent = owners.filter((name) => !known.some((each) => each.process.name === name));
  if (silent.length) return `★ ${list(silent)} does not answer, and no other server has taken over yet.`;
  if (depth(frame) === null) return "The queue does not answer at this moment, so its owner is unknown.";
  if (depth(frame)) return `${plural(depth(frame), "message")} wait in the queue; the server that holds them is not known yet.`;
  const who = frame.partitioned ? `${list(owners)} lead its partitions` : `${list(owners)} is its primary owner`;
  return `The queue is empty: no message waits. ${owners.length ? `★ ${who}.` : ""}`;
};

/** Say what is broken now, or that nothing is. */
export const whatNow = (frame, events) => {
  const broken = frame.processes.filter((process) => process.state !== "ready");
  if (!broken.length) return `Nothing is broken: all ${frame.processes.length} processes are up.`;
  const shown = broken.slice(0, 4).map((process) => {
    const event = events.findLast((each) => each.topic === "process" && each.name === process.name);
    const when = event ? ` ${ago(frame.taken_at - event.at)}` : "";
    return `${SIGN[process.state]} ${process.name}: ${state(process)}${when}`;
  });
  const more = broken.length > 4 ? `, and ${broken.length - 4} more` : "";
  return `${shown.join("; ")}${more}.`;
};

/** Say why a kill would lose nothing now, or that it would. */
export const whyNow = (frame, backups) => {
  const word = frame.words.server;
  const all = servers(frame);
  const up = all.filter((each) => UP.has(each.process.state)).length;
  if (backups === 0) return "backup-count is 0: the queue has no copies. A killed owner's messages are lost.";
  if (frame.safe === null) return `Unknown now: ${frame.safety}.`;
  if (!frame.safe) return `Not every copy is in place: ${frame.safety.replace("cluster not safe: ", "")}. Until it is, one more kill could lose messages.`;
  if (frame.partitioned) {
    if (!frame.partitions.length) return `Which ${word}s keep the partitions is unknown now.`;
    const least = Math.min(...frame.partitions.map((each) => each.in_sync.length));
    return `Every partition is kept by ${plural(least, word)} in sync, so another one can lead if its leader dies.`;
  }
  const copies = Math.min(backups, up - 1);
  if (copies < 1) return `Only one ${word} is left, so there is no copy anywhere else.`;
  return `Every message has ${plural(copies, "copy", "copies")} on other ${word}s: any ${
    copies === 1 ? "one" : copies} of ${up} may die and nothing is lost.`;
};

/** Return the facts of a scenario, gathered from its events. */
export const gather = (scenario) => {
  const of = (kind) => scenario.events.filter((event) => event.kind === kind);
  const copies = (when) => of("copies").findLast((event) => event.facts.when === when)?.facts;
  const begin = of("begin").at(-1)?.facts ?? {};
  return {
    at: (kind) => of(kind).at(-1) ?? null,
    name: begin.scenario ?? scenario.name.replace(/^.*T[\d-]+-(?=[a-z])/, ""),
    begin,
    before: copies("before"),
    after: copies("after"),
    faults: of("fault"),
    steps: of("step").map((event) => event.facts),
    says: of("says"),
    doubts: of("doubt").map((event) => event.facts.reason),
    drained: of("drained").at(-1),
    verdict: of("verdict").at(-1)?.facts ?? null,
    failed: of("failed").at(-1) ?? null,
  };
};

const members = (copies) =>
  Object.entries(copies?.members ?? {}).map(([name, [owned, backups]]) => ({ name, owned, backups }));

/** Return whether an event only repeats another event in words. */
export const echoes = (event) => event.kind === "says" && /^\s*(\+[\d.]+ s |Copies)/.test(event.detail);

/** Say where the messages were when the fault struck. */
export const whereBefore = (story) => {
  const before = members(story.before);
  if (!before.length) return null;
  return ownedSentence(before, true) ?? "The queue was empty.";
};

const DONE = [[/^(kill|bounce)/, "killed"], [/^stop/, "stopped"], [/^pause/, "frozen"]];

/** Return what a fault does to its target, such as "killed"; null if one word does not say it. */
export const done = (fault) => DONE.find(([pattern]) => pattern.test(fault))?.[1] ?? null;

/** Say which processes were hit, and what part of the queue they held. */
export const whatHappened = (story, frame) => {
  const hits = [...new Map(story.faults.map((event) => [event.facts.target, event.facts])).values()];
  if (!hits.length) return null;
  return hits
    .map(({ fault, target, owner }) => {
      const was = done(fault);
      const what = was ? `${target} was ${was}` : `${fault} hit ${target}`;
      const held = story.before?.members?.[target];
      if (!target.startsWith(`${frame.backend}-`)) return `${what}.`;
      const role = owner ? `It was ${frame.words.owner} ★` : frame.partitioned ? "It led no partition" : "It was not the primary owner";
      if (!held) return `${what}. ${role}.`;
      const holding = owner ? ` and held ${plural(held[0], "message")}` : `: it held ${held[1] ? `${plural(held[1], "copy", "copies")}` : "no copy"}, no message of its own`;
      return `${what}. ${role}${holding}.`;
    })
    .join(" ");
};

/** Say how the copies saved the messages, once the new owner is known. */
export const whatSaved = (story, frame) => {
  const struck = new Set(story.faults.filter((each) => each.facts.owner).map((each) => each.facts.target));
  const killed = new Set(story.faults.map((each) => each.facts.target));
  const before = members(story.before);
  const total = before.reduce((sum, each) => sum + each.owned, 0);
  if (!killed.size || !total) return null;
  const after = members(story.after);
  const names = (each) => each.name;
  const holders = before.filter((each) => each.backups > 0 && !killed.has(each.name)).map(names);
  if (!struck.size) {
    const owners = before.filter((each) => each.owned > 0).map(names);
    return `The killed server held copies only. The messages stayed on ★ ${list(owners)}.`;
  }
  const had = Object.fromEntries(before.map((each) => [each.name, each.owned]));
  const owners = after.length
    ? after.filter((each) => each.owned > (had[each.name] ?? 0) && !killed.has(each.name)).map(names)
    : (frame?.owners ?? []).filter((name) => !killed.has(name) && !had[name]);
  if (!holders.length) return `No other server held a copy of what ${list([...struck])} owned.`;
  const held = `${list(holders)} held copies of what ${list([...struck])} owned`;
  if (!owners.length) return `${held}; one of them takes over.`;
  return `${held}, and ★ ${list(owners)} took over.`;
};

/** Return the verdict in one sentence. */
export const verdictSentence = (story, frame) => {
  const { verdict } = story;
  if (verdict.verdict === "unknown") return `This run proves nothing: ${verdict.reasons.join("; ")}.`;
  if (verdict.verdict === "fail") {
    const layers = [...new Set(Object.values(verdict.layers ?? {}))];
    const where = verdict.lost.length && layers.length ? ` Last seen in: ${list(layers)}.` : "";
    const reasons = verdict.reasons.map((reason) => reason.replace(/^(\d+) lost$/, "$1 acknowledged messages never arrived"));
    return `The promise was broken: ${reasons.join("; ")}.${where}`;
  }
  const copies = verdict.copies_before && Object.keys(verdict.copies_before).length
    ? { ...story, before: story.before ?? { members: verdict.copies_before }, after: story.after ?? { members: verdict.copies_after } }
    : story;
  const saved = whatSaved(copies, frame);
  const all = `Each of the ${plural(verdict.acknowledged, "acknowledged message")} was delivered exactly once.`;
  return saved ? `Nothing was lost. ${saved} ${all}` : `Nothing was lost. ${all}`;
};

/** Say what a scenario does at this moment. */
export const phase = (story) => {
  if (story.failed) return "It could not run.";
  if (story.verdict) return "Finished.";
  if (story.drained) return "Every message has arrived. They are counted, and the system is repaired.";
  if (story.after || story.steps.some((step) => step.what === "the fault is over")) return "The waiting messages are delivered, then counted.";
  if (story.faults.length) return "The surviving servers are observed.";
  if (story.before) return "The consumers are off, and the messages wait in the queue. The fault comes next.";
  return "Sending messages.";
};

const PROCESS = {
  starting: "is starting", ready: "is ready", paused: "was frozen (SIGSTOP)", stopping: "is stopping",
  stopped: "has stopped", exited: "exited",
};

const SCENARIO = {
  begin: (f) => `begins: ${f.scenario}, ${plural(f.messages ?? 0, "message")}, ${f.form ?? ""}${f.seed == null ? "" : `, seed ${f.seed}`}`,
  copies: (f) => `copies ${f.when}: ${members(f).map((m) => `${m.name} owns ${m.owned}, backs up ${m.backups}`).join("; ")}`,
  fault: (f) => `${f.fault} hits ${f.target}${f.owner ? " (★ owner)" : ""}`,
  struck: (f) => `the fault took effect on ${f.target}`,
  step: (f) => `+${f.since.toFixed(2)} s ${f.what}`,
  drained: () => "every waiting message was delivered",
  doubt: (f) => `doubt: ${f.reason}`,
  end: () => "ends",
  verdict: (f) => `${f.verdict.toUpperCase()}: ${f.acknowledged} acknowledged, ${f.stored} stored, ${f.lost.length} lost, ${f.duplicated.length} duplicated`,
};

/** Return an event as one line. */
export const sentence = (event) => {
  if (event.topic === "process") {
    return `${PROCESS[event.kind] ?? event.kind}${event.detail ? ` (${event.detail})` : ""}`;
  }
  return SCENARIO[event.kind]?.(event.facts) ?? event.detail ?? event.kind;
};

/** Return the events that the charts mark: faults, and processes that exited, except right after their fault. */
export const marks = (events) => {
  const found = [];
  for (const event of events) {
    if (event.topic === "scenario" && event.kind === "fault") {
      const what = done(event.facts.fault) ?? event.facts.fault;
      found.push({ at: event.at, target: event.facts.target, label: `${event.facts.target} ${what}`, fault: true });
    } else if (event.topic === "process" && event.kind === "exited") {
      const twin = found.some((each) => each.target === event.name && Math.abs(each.at - event.at) < 2);
      if (!twin) found.push({ at: event.at, target: event.name, label: `${event.name} exited`, fault: false });
    }
  }
  return found;
};
