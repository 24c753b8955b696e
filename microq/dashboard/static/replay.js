// A finished run: a slider moves through its frames, by hand or automatically.

import { ask } from "./access.js";
import { $, el, put, set } from "./dom.js";
import { caughtUp } from "./frames.js";
import { lastScenario } from "./story.js";
import { marks } from "./telling.js";
import { clock } from "./words.js";

const upTo = (items, at) => {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].at <= at) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** Load the run into the picture, and connect the slider. */
export const replay = async (picture, changed) => {
  const run = await ask("/api/frames");
  const { frames, points, events } = run;
  const slider = $("moment");
  $("replay").hidden = false;
  picture.points = points;
  if (!frames.length) {
    put($("when"), "This run has no frames.");
    slider.disabled = $("play").disabled = true;
    return;
  }
  const first = frames[0].taken_at;
  const last = Math.max(frames.at(-1).taken_at, events.at(-1)?.at ?? 0);
  const times = frames.map((frame) => ({ at: frame.taken_at }));
  set(slider, "max", Math.ceil((last - first) * 10));
  $("ticks").append(...marks(events).map((mark) => el("i", { title: `${mark.label} ${clock(mark.at)}`, style: `left:${(100 * (mark.at - first)) / Math.max(1, last - first)}%` })));

  const go = (at) => {
    picture.now = at;
    picture.point = points[Math.max(0, upTo(points, at) - 1)] ?? null;
    picture.events = events.slice(0, upTo(events, at));
    picture.frame = caughtUp(frames[Math.max(0, upTo(times, at) - 1)], picture.events);
    picture.scenario = lastScenario(picture.events);
    const words = `${clock(at)} (+${(at - first).toFixed(1)} s)`;
    put($("when"), words);
    set(slider, "aria-valuetext", words);
    changed();
  };

  let playing = null;
  const stop = () => {
    cancelAnimationFrame(playing);
    playing = null;
    put($("play"), "▶ Play");
  };
  const play = () => {
    if (Number(slider.value) >= Number(slider.max)) slider.value = 0;
    let [at, before] = [first + slider.value / 10, performance.now()];
    put($("play"), "‖ Pause");
    const tick = (time) => {
      if (time - before > 90) {
        at += ((time - before) / 1000) * Number($("speed").value);
        before = time;
        slider.value = Math.round((at - first) * 10);
        go(Math.min(at, last));
      }
      if (at >= last) stop();
      else playing = requestAnimationFrame(tick);
    };
    playing = requestAnimationFrame(tick);
  };
  slider.addEventListener("input", () => {
    if (playing) stop();
    go(first + slider.value / 10);
  });
  $("play").addEventListener("click", () => (playing ? stop() : play()));
  slider.value = slider.max;
  go(last);
};
