// The dead letters, with why they were given up, and what may be done with them.

import { act, ask } from "./access.js";
import { $, el, keyed, put, seldom } from "./dom.js";
import { clock, plural, short } from "./words.js";

const chosen = () => [...$("letter-rows").querySelectorAll("input:checked")].map((box) => box.value);

const allow = (picture) => {
  const any = picture.access && chosen().length > 0;
  $("letters-replay").disabled = $("letters-drop").disabled = !any;
  put($("letters-drop"), "Drop");
};

const row = (picture) => (letter) =>
  el("tr", {}, el("td", {}, el("input", { type: "checkbox", value: letter.id, "aria-label": `choose ${letter.id}`, disabled: !picture.access || !letter.replayable, onchange: () => allow(picture) })),
    el("th", { scope: "row", title: letter.id }, short(letter.id)), el("td", { class: "text", title: letter.text }, letter.text),
    el("td", {}, `${letter.reason}${letter.by ? ` (${letter.by})` : ""}`), el("td", {}, clock(letter.at)));

/** Begin; returns what is to be called when something changed. */
export const letters = (picture) => {
  let shown = null;

  // The facade keeps them: while it is down, it is not asked.
  const known = () => picture.mode === "replay" || (picture.frame?.queue?.dead != null
    && picture.frame.processes.some((process) => process.role === "facade" && process.state === "ready"));

  const load = async () => {
    if (!known()) {
      shown = null;
      return;
    }
    try {
      const found = await ask("/api/dead");
      if (!found.letters) throw new Error(found.message);
      keyed($("letter-rows"), found.letters, (letter) => letter.id, row(picture));
      put($("no-letters"), "No dead letter: nothing was given up.");
      $("no-letters").hidden = found.letters.length > 0;
      allow(picture);
    } catch (error) {
      shown = null;
      $("no-letters").hidden = false;
      put($("no-letters"), error.message);
    }
  };

  const deal = async (verb) => {
    const ids = chosen();
    try {
      await act("/api/dead", { verb, ids });
      put($("letters-answer"), `${plural(ids.length, "letter")} ${verb === "replay" ? "put into the queue again" : "dropped"}.`);
    } catch (error) {
      put($("letters-answer"), error.message);
    }
    load();
  };

  $("letters-replay").addEventListener("click", () => deal("replay"));
  $("letters-drop").addEventListener("click", () => {
    const sure = `Drop ${chosen().length} for ever?`;
    if ($("letters-drop").textContent === sure) deal("drop");
    else put($("letters-drop"), sure);
  });

  const soon = seldom(1000, load);
  return () => {
    if (!known()) return;
    const now = `${picture.frame?.queue?.dead} ${picture.access}`;
    if (now === shown) return;
    if (shown && picture.access !== (shown.split(" ")[1] === "true")) $("letter-rows").replaceChildren(), ($("letter-rows").keyed = null);
    shown = now;
    soon();
  };
};
