// The actions of the page: send messages, and run faults.

import { act } from "./access.js";
import { $, el, put } from "./dom.js";
import { plural } from "./words.js";

const checkOf = (picture) => (picture.partitioned ? "kill-leader" : "kill-member");
const MESSAGES = 100;

const answer = (text, bad = false) => {
  put($("acted"), text);
  $("acted").dataset.tone = bad ? "bad" : "good";
};

const field = ({ name, help, type, choices, least, most, default: value }) => {
  const attributes = { name, "data-type": type };
  let input;
  if (type === "choice") input = el("select", attributes, ...choices.map((each) => el("option", { value: each, selected: each === value }, each || "(default)")));
  else if (type === "bool") input = el("input", { ...attributes, type: "checkbox", checked: value === true });
  else if (type === "str") input = el("input", { ...attributes, type: "text", value, autocomplete: "off", list: choices.length ? `${name}-choices` : null });
  else input = el("input", { ...attributes, type: "number", step: type === "int" ? 1 : "any", min: least, max: most, value });
  const known = type === "str" && choices.length ? el("datalist", { id: `${name}-choices` }, ...choices.map((each) => el("option", { value: each }))) : null;
  return el("label", {}, `${name.replaceAll("_", " ")} `, input, known, el("small", {}, help));
};

const read = (input) => {
  if (input.dataset.type === "bool") return input.checked;
  if (input.value === "") return null;
  return ["int", "float"].includes(input.dataset.type) ? Number(input.value) : input.value;
};

const quiet = (fault) => ({ name: "quiet", type: "bool", default: fault.quiet_default ?? true, help: "The consumers are off during the fault, so every message that arrives comes from the copies." });
const COUNT = { name: "messages", type: "int", default: MESSAGES, help: "How many messages are sent." };

/** Connect the part to the page; return the function that draws it again. */
export const actions = (picture, changed) => {
  let faults = null;
  let running = false;
  const chosen = () => faults?.find((each) => each.name === $("fault-name").value);

  const form = () => {
    const fault = chosen();
    if (!fault) return;
    put($("fault-help"), fault.runnable ? fault.help : `${fault.help}. It cannot run here: ${fault.why_not}.`);
    $("fault-fields").replaceChildren(...[COUNT, ...(fault.quiet ? [quiet(fault)] : []), ...fault.fields].map(field));
    allow();
  };

  const allow = () => {
    const busy = picture.scenario?.running ?? false;
    if (running && !busy) answer("The scenario has ended; its verdict is above.");
    running = busy;
    $("acting").disabled = !picture.access || picture.mode === "replay" || picture.lost;
    $("no-access").hidden = picture.access || picture.mode === "replay";
    $("check").disabled = busy || !faults?.find((each) => each.name === checkOf(picture))?.runnable;
    $("check-owner").disabled = $("check").disabled;
    $("fault-run").disabled = busy || !chosen()?.runnable;
    put($("fault-run"), busy ? "A scenario is running" : "Run");
  };

  const run = async (name, body) => {
    answer(`Starting ${name} …`);
    try {
      await act("/api/fault", { name, messages: null, quiet: null, options: {}, ...body });
      picture.dismissed = null;
      answer(`${name} is running; its steps are shown above.`);
      $("story").scrollIntoView({ block: "nearest" });
    } catch (error) {
      answer(error.message, true);
    }
    changed();
  };

  const offer = () => {
    faults = picture.faults;
    $("fault-name").replaceChildren(...faults.map((fault) => el("option", { value: fault.name }, `${fault.name}${fault.runnable ? "" : " (cannot run here)"}`)));
    const check = checkOf(picture);
    put($("check-name"), `Kill a server: ${check}`);
    $("check-owner").hidden = check === "kill-leader";
    put($("check-help"), `Sends ${MESSAGES} messages with the consumers off, kills ${check === "kill-leader" ? "a leader" : "the member with the lowest address"}, starts the consumers, and counts the messages.`);
    $("fault-name").value = faults.find((each) => each.runnable && each.name !== check)?.name ?? check;
    form();
  };

  $("fault-name").addEventListener("change", form);
  $("check").addEventListener("click", () => run(checkOf(picture), { messages: MESSAGES, quiet: true }));
  $("check-owner").addEventListener("click", () => run("kill-member", { messages: MESSAGES, quiet: true, options: { target: "owner" } }));
  $("fault").addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.fromEntries([...$("fault-fields").querySelectorAll("[name]")].map((input) => [input.name, read(input)]));
    const { messages = null, quiet = null, ...rest } = values;
    run(chosen().name, { messages, quiet, options: Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null)) });
  });
  $("send").addEventListener("submit", async (event) => {
    event.preventDefault();
    const count = Number($("send-count").value);
    answer(`Sending ${plural(count, "message")} …`);
    try {
      const done = await act("/api/send", { count });
      const others = [done.rejected && `${done.rejected} rejected`, done.indeterminate && `${done.indeterminate} indeterminate`].filter(Boolean);
      answer([`${done.acknowledged} of ${count} acknowledged in ${done.seconds.toFixed(2)} s`, ...others].join(", "), others.length > 0);
    } catch (error) {
      answer(error.message, true);
    }
  });

  return () => {
    if (picture.faults && picture.faults !== faults) offer();
    allow();
  };
};
