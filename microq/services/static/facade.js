// The page tries the calls of the service that it came from, and shows what that answers.

const $ = (id) => document.getElementById(id);

const SHOWN = 100;
const LOOKS = 30;
const PAUSE_MS = 250;

function show(id, text, tone = "") {
  const place = $(id);
  place.textContent = text;
  place.dataset.tone = tone;
  place.hidden = false;
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const text = await response.text();
  return [response.status, JSON.parse(text), text];
}

async function during(form, work) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    show("became", `No answer: ${error.message}. Is the system up?`, "bad");
  } finally {
    button.disabled = false;
  }
}

async function send() {
  const body = JSON.stringify({ msg: $("text").value });
  $("became").hidden = true;
  show("sent-call", `POST /facade with ${body}`);
  const [status, told, text] = await ask("/facade", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
  });
  show("sent", `${status} ${text}`, status === 200 ? "good" : "bad");
  if (status === 200) await follow(told.uuid);
}

async function follow(uuid) {
  show("became", "accepted; waiting for a messages-service …");
  for (let look = 0; look < LOOKS; look += 1) {
    const [status, told] = await ask(`/facade/${encodeURIComponent(uuid)}`);
    if (status === 200 && told.state === "stored") return show("became", `stored by ${told.by}`, "good");
    if (status === 200 && told.state === "dead") return show("became", `a dead letter: ${told.reason}`, "bad");
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
  return show("became", "still in the queue: is a messages-service up?");
}

function list(id, texts) {
  $(id).replaceChildren(
    ...texts.map((text) => {
      const row = document.createElement("li");
      row.textContent = text;
      return row;
    }),
  );
}

async function read() {
  const [status, told] = await ask(`/facade?limit=${SHOWN}`);
  if (status !== 200) return show("became", told.message, "bad");
  $("sets").hidden = false;
  $("logs-title").textContent = `Log, by ${told["logging-service"] || "none: no logging-service answers"}`;
  $("messages-title").textContent =
    `Messages, by ${told["messages-service"] || "none: no messages-service answers"}`;
  list("logs", told.logs);
  list("messages", told.message);
  const full = told.logs.length >= SHOWN || told.message.length >= SHOWN;
  const part = full ? `The oldest ${SHOWN} of each; GET /facade has them all.` : "All that these two have.";
  $("read-note").textContent = `${part} Each read asks one instance of each, by chance.`;
  return undefined;
}

async function copy(button) {
  const example = button.parentElement.querySelector("code");
  getSelection().selectAllChildren(example);
  try {
    await navigator.clipboard.writeText(example.textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Selected"; // a page that is not on this machine may not write to the clipboard
  }
}

for (const [id, work] of [["send", send], ["read", read]]) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    during(event.currentTarget, work);
  });
}
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
