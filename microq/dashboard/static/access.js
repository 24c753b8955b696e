// Access: a tab may act if its address contained the token; the token is kept for this tab only.

const KEY = "microq-token";

/** Take the token out of the address, so that it is not copied with the address. */
const fromAddress = () => {
  const address = new URL(location.href);
  const token = address.searchParams.get("token");
  if (token) {
    sessionStorage.setItem(KEY, token);
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }
  return token ?? sessionStorage.getItem(KEY);
};

const token = fromAddress();
const headers = token ? { "X-Microq-Token": token } : {};

/** Ask for JSON; an error has the message of the server. */
export const ask = async (path, options = {}) => {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the dashboard's server does not answer");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.message ?? `the server answered ${answer.status}`);
  return body;
};

/** Whether actions are allowed. */
export const allowed = async () => {
  if (!token) return false;
  try {
    return (await ask("/api/access", { headers })).actions === true;
  } catch {
    return false;
  }
};

/** Ask for an action. */
export const act = (path, body) =>
  ask(path, { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) });
