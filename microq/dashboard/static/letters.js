// The dead letters with their reasons, and the actions on them.

import { act, ask } from "./access.js";
import { $, el, keyed, put, seldom } from "./dom.js";
import { clock, plural, short } from "./words.js";

const chosen = () => [...$("letter-rows").querySelectorAll("input:checked")];

const allow = (picture) => {
  const boxes = picture.access ? chosen() : [];
  $("letters-drop").disabled = !boxes.length;
  $("letters-replay").disabled = !boxes.length || boxes.some((box) => box.dataset.replayable !== "yes");
  put($("letters-drop"), "Drop");
};

const row = (picture) => (letter) =>
  el("tr", {}, el("td", {}, el("input", { type: "checkbox", value: letter.uuid, "data-replayable": letter.replayable ? "yes" : "no", "aria-label": `choose ${letter.uuid}`, disabled: !picture.access, onchange: () => allow(picture) })),
    el("th", { scope: "row", title: letter.uuid }, short(letter.uuid)), el("td", { class: "text", title: letter.msg }, letter.msg),
    el("td", {}, `${letter.reason}${letter.by ? ` (${letter.by})` : ""}`), el("td", {}, clock(letter.at)));

/** Connect the part to the page; return the function that draws it again. */
export const letters = (picture) => {
  let shown = null;

  // The facade keeps the dead letters, so while it is down no request is sent.
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
      keyed($("letter-rows"), found.letters, (letter) => letter.uuid, row(picture));
      put($("no-letters"), "There are no dead letters.");
      $("no-letters").hidden = found.letters.length > 0;
      allow(picture);
    } catch (error) {
      shown = null;
      $("no-letters").hidden = false;
      put($("no-letters"), error.message);
    }
  };

  const change = async (verb) => {
    const ids = chosen().map((box) => box.value);
    try {
      await act("/api/dead", { verb, ids });
      put($("letters-answer"), `${plural(ids.length, "letter")} ${verb === "replay" ? "put into the queue again" : "dropped"}.`);
    } catch (error) {
      put($("letters-answer"), error.message);
    }
    load();
  };

  $("letters-replay").addEventListener("click", () => change("replay"));
  $("letters-drop").addEventListener("click", () => {
    const sure = `Drop ${plural(chosen().length, "letter")} for ever?`;
    if ($("letters-drop").textContent === sure) change("drop");
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
