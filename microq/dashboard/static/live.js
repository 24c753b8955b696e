// The connection: it loads the state once and then receives the changes. When it breaks, it connects again, without a limit.

import { ask } from "./access.js";

const AGAIN = 1000;

/** The key of an event: the same event may come with the state and by the stream. */
const mark = (event) => `${event.at} ${event.name} ${event.kind} ${event.detail}`;

/** Connect, and call `hears`: state(body), frame(body), event(event), lost(). */
export const follow = (hears) => {
  let source = null;
  let held = null;
  let known = new Set();

  const take = (kind, body) => {
    if (held) held.push([kind, body]);
    else if (kind === "frame") hears.frame(body);
    else if (!known.has(mark(body))) hears.event(body);
  };

  const begin = async () => {
    held = [];
    try {
      const state = await ask("/api/state");
      const waiting = held;
      known = new Set([...state.events, ...(state.scenario?.events ?? [])].map(mark));
      held = null;
      hears.state(state);
      for (const [kind, body] of waiting) take(kind, body);
    } catch {
      source.close();
      away();
    }
  };

  const away = () => {
    hears.lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(open, AGAIN);
  };

  const open = () => {
    source = new EventSource("/api/stream");
    source.addEventListener("open", begin);
    source.addEventListener("error", away);
    source.addEventListener("frame", (message) => take("frame", JSON.parse(message.data)));
    source.addEventListener("event", (message) => take("event", JSON.parse(message.data)));
  };
  const first = async () => {
    try {
      const state = await ask("/api/state");
      if (state.mode === "replay") hears.state(state);
      else open();
    } catch {
      hears.lost();
      setTimeout(first, AGAIN);
    }
  };
  first();
};
