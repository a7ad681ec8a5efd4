// Requests to the page's own API, below `api/`.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.type = error.type;
    this.details = error.details;
    this.issues = error.meta?.issues ?? [];
  }
}

/** Join parts to a path; ids may hold any character. */
export function path(...parts) {
  return ["api", ...parts.map(encodeURIComponent)].join("/");
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, { cache: "no-store", ...options });
  } catch {
    throw new ApiError(0, { type: "unreachable", message: "The server does not answer.", details: "Is flue dev running?" });
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    body = null;
  }
  if (!response.ok || body === null) {
    throw new ApiError(response.status, body?.error ?? { type: "unreadable", message: `The server answered ${response.status}.` });
  }
  return body;
}

export function get(address, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== null);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  return ask(address + search);
}

export function post(address, body = {}) {
  return ask(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

/**
 * Follow the events of a prompt or a run: those that were, then as they come. The browser goes on by itself where a
 * connection broke off. Returns a function that ends it.
 */
export function follow(id, { types, onevent, onend, onfail }) {
  const query = types ? `?types=${types.join(",")}` : "";
  const source = new EventSource(`${path("submissions", id, "stream")}${query}`);
  source.onmessage = (message) => onevent(JSON.parse(message.data));
  source.addEventListener("end", (message) => {
    source.close();
    onend(JSON.parse(message.data));
  });
  source.addEventListener("failed", (message) => {
    source.close();
    onfail(new ApiError(500, JSON.parse(message.data).error));
  });
  source.onerror = () => {
    // While it connects again it says nothing; a refusal is final.
    if (source.readyState === EventSource.CLOSED) {
      onfail(new ApiError(0, { type: "unreachable", message: "The events cannot be followed any more." }));
    }
  };
  return () => source.close();
}
