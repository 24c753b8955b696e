// A frame is the state of the system at one moment. Later events may be known already.

/** Return a frame with the process states of later events: a kill is shown at once, its figures come later. */
export const caughtUp = (frame, events) => {
  const since = new Map();
  for (let place = events.length - 1; place >= 0 && events[place].at > frame.taken_at; place -= 1) {
    const { topic, name, kind } = events[place];
    if (topic === "process" && !since.has(name)) since.set(name, kind);
  }
  if (!since.size) return frame;
  const processes = frame.processes.map((process) => (since.has(process.name) ? { ...process, state: since.get(process.name) } : process));
  return { ...frame, processes };
};
