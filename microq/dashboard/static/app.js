// The page keeps one picture of the system. Each event and each snapshot changes the picture; then every part is drawn once.

import { allowed } from "./access.js";
import { actions } from "./actions.js";
import { charts } from "./charts.js";
import { details } from "./details.js";
import { $, put, set } from "./dom.js";
import * as events from "./events.js";
import { letters } from "./letters.js";
import { caughtUp } from "./frames.js";
import { follow } from "./live.js";
import { messages } from "./messages.js";
import { replay } from "./replay.js";
import { tabulate } from "./servers.js";
import * as story from "./story.js";
import * as summary from "./summary.js";
import { topology } from "./topology.js";

const MOST_EVENTS = 500;
const MOST_POINTS = 3600;

const picture = {
  mode: "live", frame: null, point: null, points: [], events: [], cues: [], scenario: null, faults: null, backend: null, partitioned: false, queue: null,
  now: Date.now() / 1000, access: false, lost: false, paused: false, dismissed: null, skew: 0,
  /** The time of the server. */
  clock: () => Date.now() / 1000 + picture.skew,
};

let due = false;
const changed = () => {
  if (due) return;
  due = true;
  // A hidden page is drawn when it becomes visible.
  (document.hidden ? setTimeout : requestAnimationFrame)(draw, 500);
};

const parts = { details: details(picture), messages: messages(picture), letters: letters(picture), actions: actions(picture, changed) };
const place = topology(parts.details.open);

const draw = () => {
  due = false;
  if (picture.mode === "live" && !picture.paused) picture.now = picture.clock();
  summary.figures(picture);
  summary.age(picture);
  story.tell(picture);
  place(picture);
  tabulate(picture);
  events.show(picture);
  parts.actions();
  parts.details.show();
  parts.letters();
  parts.messages();
  parts.charts?.draw();
};

const thin = (points) => (points.length > MOST_POINTS ? points.filter((_, place) => place % 2 || place > MOST_POINTS / 2) : points);

const hears = {
  async state(state) {
    Object.assign(picture, {
      mode: state.mode, backend: state.backend, partitioned: state.partitioned, faults: state.faults, lost: false, scenario: state.scenario, queue: state.queue, skew: state.now - Date.now() / 1000,
    });
    summary.name(state);
    set(document.body, "data-mode", state.mode);
    if (state.mode === "replay" && picture.points.length) return;
    Object.assign(picture, { events: state.events, points: state.points, frame: state.frame ?? picture.frame, point: state.points.at(-1) ?? null });
    parts.charts ??= charts(picture);
    if (state.mode === "replay") {
      parts.charts.choose(true);
      await replay(picture, changed);
    } else {
      picture.access = await allowed();
    }
    changed();
  },
  frame({ frame, point, cues }) {
    if (picture.mode === "replay") return;
    if (point) picture.points = thin([...picture.points, point]);
    if (picture.paused) return;
    Object.assign(picture, { frame: caughtUp(frame, picture.events), point: point ?? picture.point, cues: cues ?? [] });
    changed();
  },
  event(event) {
    if (picture.mode === "replay") return;
    picture.events = [...picture.events, event].slice(-MOST_EVENTS);
    if (event.topic === "process" && picture.frame && !picture.paused) picture.frame = caughtUp(picture.frame, picture.events);
    if (event.topic === "scenario") {
      if (picture.scenario?.name !== event.name) picture.scenario = { name: event.name, running: true, events: [] };
      const { name, events: earlier } = picture.scenario;
      const over = event.kind === "verdict" || event.kind === "failed";
      picture.scenario = { name, running: picture.scenario.running && !over, events: [...earlier, event] };
    }
    changed();
  },
  lost() {
    picture.lost = true;
    changed();
  },
};

$("pause").addEventListener("click", () => {
  picture.paused = !picture.paused;
  set($("pause"), "aria-pressed", String(picture.paused));
  put($("pause"), picture.paused ? "Continue" : "Pause");
  changed();
});
story.begin(picture, changed);
events.begin(changed);
setInterval(() => summary.age(picture), 1000);
document.addEventListener("visibilitychange", changed);
follow(hears);
