// The header: the run, its main figures, and their age.

import { $, put, set } from "./dom.js";
import { depth } from "./telling.js";
import { UNKNOWN, ago, count, list, rate } from "./words.js";

const OLD = 3;

/** Show the facts that stay the same during a run. */
export const name = (state) => {
  put($("run"), `${state.project ? `${state.project} · ` : ""}${state.run}`);
  put($("backend"), state.backend);
  put($("config"), state.config);
  put($("versions"), `microq ${state.microq} · queue ${state.queue.name} · ${state.queue.backup_count} backups · at most ${count(state.queue.max_size)} messages`);
  document.title = `microq ${state.run}`;
};

const safe = (frame) => {
  if (!frame.managed) return ["servers run elsewhere", "wait"];
  if (frame.safe === null) return ["? unknown", "wait"];
  if (frame.safe) return ["✓ safe", "good"];
  if (!(frame.members.length + frame.brokers.length)) return ["✗ no server answers", "bad"];
  return [`! ${frame.safety.split(":")[0].replace("cluster not safe", "not safe")}`, "bad"];
};

/** Show the main figures. */
export const figures = (picture) => {
  const { frame, point } = picture;
  if (!frame) return;
  const [words, tone] = safe(frame);
  put($("safe"), words);
  set($("safe"), "data-tone", tone);
  put($("owner-head"), frame.partitioned ? "Leaders" : "Primary owner");
  const owners = frame.owners ?? [];
  put($("owner"), owners.length ? `★ ${frame.partitioned ? owners.map((each) => each.replace(`${frame.backend}-`, "")).join(", ") : list(owners)}` : UNKNOWN);
  put($("depth"), count(depth(frame)));
  put($("accepted"), rate(point?.accepted));
  put($("delivered"), rate(point?.delivered));
  put($("pending"), count(frame.queue?.pending));
  put($("redelivered"), count(frame.queue?.redelivered));
  put($("dead"), count(frame.queue?.dead));
  set($("dead").parentNode, "data-tone", frame.queue?.dead ? "bad" : null);
};

/** Show whether the figures are live, and how old they are; also called every second. */
export const age = (picture) => {
  const old = picture.frame ? picture.clock() - picture.frame.taken_at : null;
  const banner = $("banner");
  if (picture.mode === "replay") {
    put($("fresh"), "replay");
    set($("fresh"), "data-tone", "wait");
    banner.hidden = true;
    return;
  }
  const seconds = old == null ? null : Math.max(0, Math.round(old));
  const stale = old != null && old > OLD;
  put($("fresh"), picture.lost ? "✗ no connection" : picture.paused ? `‖ paused, ${ago(old ?? 0)}` : stale ? `! ${seconds} s old` : picture.frame ? "● live" : "… waiting");
  set($("fresh"), "data-tone", picture.lost ? "bad" : picture.paused || stale || !picture.frame ? "wait" : "good");
  const text = picture.lost
    ? `Connection lost${seconds == null ? "" : `, figures are ${seconds} s old`}. Trying again every second.`
    : stale && !picture.paused ? `The figures are ${seconds} s old.` : "";
  banner.hidden = !text;
  put(banner, text);
};
