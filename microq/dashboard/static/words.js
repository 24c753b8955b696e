// Numbers, times and states in words.

const NUMBER = new Intl.NumberFormat("en");
export const UNKNOWN = "n/a";
export const NOTHING = "–";

/** A shape for each state of a process, for people who do not see colours. */
export const SIGN = { starting: "…", ready: "●", paused: "‖", stopping: "…", stopped: "○", exited: "✗" };
export const UP = new Set(["starting", "ready", "paused", "stopping"]);

export const count = (value) => (value == null ? UNKNOWN : NUMBER.format(value));

export const rate = (value) => {
  if (value == null) return UNKNOWN;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : NUMBER.format(Math.round(value))}/s`;
};

export const mebibytes = (bytes) => (bytes == null ? NOTHING : `${NUMBER.format(Math.round(bytes / 1048576))} MiB`);

export const percent = (share) => (share == null ? NOTHING : `${Math.round(share * 100)} %`);

/** 0.4 ms, 3 ms, 4.1 s, 3m07s, 2h15m. */
export const duration = (seconds) => {
  if (seconds == null) return NOTHING;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  const rest = String(Math.round(seconds) % 60).padStart(2, "0");
  if (minutes < 60) return `${minutes}m${rest}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m`;
};

/** Return an age in whole seconds: a finer figure would change while it is read. */
export const ago = (seconds) => (seconds < 59.5 ? `${Math.max(0, Math.round(seconds))} s ago` : `${duration(seconds)} ago`);

const two = (number) => String(number).padStart(2, "0");

/** The time of day, to the second or to the millisecond. */
export const clock = (at, fine = false) => {
  if (at == null) return NOTHING;
  const date = new Date(at * 1000);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return fine ? `${time}.${String(date.getMilliseconds()).padStart(3, "0")}` : time;
};

/** a, b and c. */
export const list = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

export const plural = (number, word, many = `${word}s`) => `${count(number)} ${number === 1 ? word : many}`;

/** Why a process ended. A server that ran out of memory ends with status 3. */
const why = (process) =>
  process.exit_status === 3 && ["queue", "maps"].includes(process.role) ? "out of memory" : process.exit_status;

/** The state of a process in words: exited (-9). */
export const state = (process) =>
  process.state === "exited" && process.exit_status != null ? `exited (${why(process)})` : process.state;

/** An id that fits a table. */
export const short = (id) => (id.length > 12 ? `${id.slice(0, 8)}…` : id);
