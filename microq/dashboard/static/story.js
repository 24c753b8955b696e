// The story answers three questions: where the messages are, what happens, and why nothing is lost.

import { $, el, keyed, put, say, set } from "./dom.js";
import * as telling from "./telling.js";
import { UP, ago, plural } from "./words.js";

const RECENT = 600;

/** Return the scenario to show: one that runs, or ended in the last ten minutes; null if there is none. */
const current = (picture) => {
  const { scenario } = picture;
  if (!scenario?.events.length || picture.dismissed === scenario.name) return null;
  return scenario.running || picture.now - scenario.events.at(-1).at < RECENT || picture.mode === "replay" ? scenario : null;
};

const step = () => el("li", {}, el("b"), " ", el("span"));

const steps = (story) => {
  keyed($("steps"), story?.steps ?? [], (each) => `${each.since} ${each.what}`, step, (node, each) => {
    put(node.firstChild, `+${each.since.toFixed(2)} s`);
    put(node.lastChild, each.what);
  });
};

const line = () => el("li");
const lines = (node, texts) => keyed(node, texts, (text) => text, line, put);

/** The other lists of ids in a verdict, in the order of the terminal; older verdicts lack some. */
const FOUND = [
  "unlogged", "unexpected", "vanished", "unstable", "disordered", "differing", "premature", "misplaced", "hidden",
  "invented", "dead_yet_shown", "unsettled", "redelivered", "dead", "foreign",
];

const counts = (verdict) => [
  plural(verdict.acknowledged, "acknowledged", "acknowledged"),
  `${verdict.stored} stored`,
  `${verdict.lost.length} lost`,
  `${verdict.duplicated.length} duplicated`,
  ...FOUND.filter((name) => verdict[name]?.length).map((name) => `${verdict[name].length} ${name.replaceAll("_", " ")}`),
  ...(verdict.first_acknowledgement_s == null ? [] : [`first acknowledgement ${verdict.first_acknowledgement_s.toFixed(2)} s after the fault was confirmed`]),
  ...(verdict.longest_gap_s == null ? [] : [`longest gap ${verdict.longest_gap_s.toFixed(2)} s`]),
];

const QUESTION = { pass: "Why was nothing lost?", fail: "What went wrong?", unknown: "Why is it unknown?" };

/** Return the last line of the scenario, unless a later step says more; after its end, which targets run again. */
const saying = (story, frame) => {
  if (story.verdict) {
    const hit = [...new Set(story.faults.map((event) => event.facts.target))];
    const back = hit.filter((name) => frame.processes.some((process) => process.name === name && UP.has(process.state)));
    return back.length ? `Started again afterwards: ${back.join(", ")}.` : "";
  }
  const last = story.says.findLast((event) => !telling.echoes(event));
  const steps = story.at("step");
  return last && !(steps && steps.at >= last.at) && !/^Hitting/.test(last.detail) ? last.detail.trim() : "";
};

const MARK = { pass: "✓", fail: "✗", unknown: "?" };

const headline = (story, scenario, now) => {
  if (!story) return "Now";
  if (story.failed) return `${story.name} could not run`;
  if (story.verdict) return `${story.name} ended ${ago(now - scenario.events.at(-1).at)}`;
  return scenario.running ? `${story.name} is running` : `${story.name} was interrupted`;
};

const ruling = (story, scenario) => {
  const found = story?.failed ? "unknown" : story?.verdict?.verdict;
  const word = $("ruling");
  const text = story?.failed ? "✗ NOT RUN" : found ? `${MARK[found]} ${found.toUpperCase()}` : "… no verdict yet";
  put(word, text);
  word.hidden = !story || (!found && !scenario.running);
  set($("story"), "data-tone", found ?? (story && scenario.running ? "running" : null));
};

const why = (story, picture) => {
  if (!story) return telling.whyNow(picture.frame, picture.queue.backup_count);
  if (story.failed) return story.failed.detail;
  if (story.verdict) return telling.verdictSentence(story, picture.frame);
  return [telling.whatSaved(story, picture.frame), telling.phase(story)].filter(Boolean).join(" ");
};

const aside = (story, picture) => {
  const verdict = story?.verdict;
  lines($("counts"), verdict ? counts(verdict) : []);
  const cues = [...new Set([...(verdict?.cues ?? []), ...(story?.doubts ?? []), ...picture.cues])];
  lines($("cues"), cues);
  const run = verdict?.history?.split("/").at(-2);
  $("report").hidden = !run;
  if (run) set($("report-link"), "href", `/report/${encodeURIComponent(run)}`);
  put($("report-path"), verdict?.report ?? verdict?.history);
};

/** Return the text for screen readers: what happens, without the figures that change all the time. */
const aloud = (story, picture) => {
  if (!story) return picture.frame.processes.filter(({ state }) => state !== "ready").map(({ name, state }) => `${name}: ${state}.`).join(" ");
  if (story.verdict) return `${story.verdict.verdict}. ${why(story, picture)}`;
  return [telling.whatHappened(story, picture.frame) ?? telling.phase(story), story.steps.at(-1)?.what].filter(Boolean).join(" ");
};

/** Show the story. */
export const tell = (picture) => {
  if (!picture.frame) return;
  const scenario = current(picture);
  const story = scenario ? telling.gather(scenario) : null;
  put($("story-head"), headline(story, scenario, picture.now));
  $("dismiss").hidden = !story || scenario.running || picture.mode === "replay";
  const before = story ? telling.whereBefore(story) : null;
  put($("where-head"), before ? "Where were the messages?" : "Where are the messages?");
  say($("where"), before ?? telling.whereNow(picture.frame));
  say($("where-now"), before ? `Now: ${telling.whereNow(picture.frame)}` : "");
  const happened = story ? telling.whatHappened(story, picture.frame) : null;
  put($("what-head"), happened ? "What happened?" : "What happens?");
  say($("what"), happened ?? (story ? telling.phase(story) : telling.whatNow(picture.frame, picture.events)));
  say($("saying"), story ? saying(story, picture.frame) : "");
  steps(story);
  put($("why-head"), story ? QUESTION[story.verdict?.verdict] ?? "Is anything lost?" : "Would a kill lose a message?");
  ruling(story, scenario);
  say($("why"), why(story, picture));
  aside(story, picture);
  put($("told"), aloud(story, picture));
};

/** Connect the button that leads from a finished scenario to the current state. */
export const begin = (picture, changed) => {
  $("dismiss").addEventListener("click", () => {
    picture.dismissed = picture.scenario?.name;
    changed();
    $("story").focus();
  });
};

/** Return the last scenario among some events. */
export const lastScenario = (events) => {
  const name = events.findLast((event) => event.topic === "scenario")?.name;
  if (!name) return null;
  const own = events.filter((event) => event.topic === "scenario" && event.name === name);
  return { name, events: own, running: !own.some((event) => event.kind === "verdict" || event.kind === "failed") };
};

