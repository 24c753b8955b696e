// The newest messages, the results of a search, and the journey of one message.

import { ask } from "./access.js";
import { $, el, keyed, put, seldom, set, watched } from "./dom.js";
import { NOTHING, clock, duration, plural, short } from "./words.js";

const LIMIT = 50;
const EVERY = 2000;

const row = (opens) => (message) =>
  el("tr", {}, el("th", { scope: "row" }, el("button", { type: "button", class: "link", title: message.id, onclick: () => opens(message.id) }, short(message.id))),
    el("td", { class: "text" }), el("td"), el("td", { class: "number" }), el("td"), el("td"), el("td"));

const fill = (node, message) => {
  const cells = [message.text, clock(message.acknowledged_at, true), duration(message.took_s), message.logged_by ?? NOTHING,
    message.received_by ?? "waits", clock(message.received_at, true)];
  cells.forEach((text, place) => put(node.children[place + 1], text));
  set(node.children[1], "title", message.text);
};

const stepOf = (step) =>
  el("li", { "data-sure": step.sure ? null : "no" }, el("time", {}, clock(step.at, true)), " ", el("b", {}, step.where || "—"), " ",
    el("span", {}, step.sure ? step.what : `${step.what} (not certain)`));

const journey = async (id) => {
  put($("journey-head"), `Journey of ${id}`);
  try {
    const found = await ask(`/api/message?id=${encodeURIComponent(id)}`);
    put($("journey-text"), found.text ?? "");
    $("journey-steps").replaceChildren(...found.steps.map(stepOf));
  } catch (error) {
    put($("journey-text"), error.message);
    $("journey-steps").replaceChildren();
  }
};

const load = async () => {
  const asked = $("search-text").value.trim();
  try {
    const found = await ask(`/api/messages?limit=${LIMIT}${asked ? `&q=${encodeURIComponent(asked)}` : ""}`);
    if ($("search-text").value.trim() !== asked) return;
    const making = row((id) => {
      journey(id);
      $("journey").focus({ preventScroll: matchMedia("(min-width: 900px)").matches });
    });
    keyed($("message-rows"), found.messages, (message) => message.id, making, fill);
    $("no-messages").hidden = found.messages.length > 0;
    put($("no-messages"), asked ? `Nothing matches “${asked}”.` : "No message yet.");
  } catch (error) {
    put($("no-messages"), error.message);
    $("no-messages").hidden = false;
  }
};

/** Connect the part to the page; return the function that draws it again. */
export const messages = (picture) => {
  const soon = seldom(EVERY, load);
  const sight = watched($("messages-part"), soon);
  $("search").addEventListener("submit", (event) => event.preventDefault());
  $("search-text").addEventListener("input", seldom(250, load));
  return () => {
    if (!sight.seen || !picture.frame) return;
    const held = picture.frame.processes.reduce((sum, process) => sum + (process.role === "messages" ? process.held ?? 0 : 0), 0);
    put($("held"), `${plural(held, "message")} held by the messages-services`);
    soon();
  };
};
