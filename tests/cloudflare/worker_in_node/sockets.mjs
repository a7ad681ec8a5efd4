// WebSockets as a Worker has them: pairs, of which one end is handed to the client in a response with status 101.

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;
const MAX_ATTACHMENT = 16_384;
// RFC 6455, 7.4.1: not to be sent.
const RESERVED = new Set([1004, 1005, 1006, 1015]);

export class WebSocket extends EventTarget {
  readyState = CONNECTING;
  binaryType = "arraybuffer";
  #peer = null;
  #accepted = false;
  #queue = [];
  #attachment;
  // Set by the object that accepted it for hibernation: takes ("message", data), ("close", code, reason), ("error").
  hibernating = null;

  static linked() {
    const [client, server] = [new WebSocket(), new WebSocket()];
    [client.#peer, server.#peer] = [server, client];
    return [client, server];
  }

  accept() {
    this.#accepted = true;
    this.readyState = OPEN;
    for (const event of this.#queue.splice(0)) this.#deliver(event);
  }

  send(data) {
    if (this.readyState >= CLOSING) throw new TypeError("Can't call WebSocket send() after close().");
    if (typeof data !== "string") data = copied(data);
    this.#peer.#receive({ kind: "message", data });
  }

  close(code = 1000, reason = "") {
    if (code !== 1000 && (code < 3000 || code > 4999) && (RESERVED.has(code) || code < 1000 || code > 1014)) {
      throw new TypeError(`Invalid WebSocket close code: ${code}.`);
    }
    if (Buffer.byteLength(reason) > 123) throw new TypeError("The reason is too long.");
    if (this.readyState >= CLOSING) return;
    this.readyState = this.#peer.readyState === CLOSING ? CLOSED : CLOSING;
    this.#peer.#receive({ kind: "close", code, reason });
  }

  serializeAttachment(value) {
    const text = JSON.stringify(value);
    if (text.length > MAX_ATTACHMENT) throw new Error("A WebSocket 'attachment' cannot be larger than 16384 bytes.");
    this.#attachment = text;
  }

  deserializeAttachment() {
    return this.#attachment === undefined ? null : JSON.parse(this.#attachment);
  }

  // For the harness: the connection is gone without a word.
  drop() {
    this.#receive({ kind: "close", code: 1006, reason: "" });
  }

  set onmessage(listener) {
    this.addEventListener("message", listener);
  }

  set onclose(listener) {
    this.addEventListener("close", listener);
  }

  #receive(event) {
    queueMicrotask(() => (this.#accepted ? this.#deliver(event) : this.#queue.push(event)));
  }

  #deliver({ kind, data, code, reason }) {
    if (kind === "close") this.readyState = this.readyState === CLOSING ? CLOSED : CLOSING;
    if (this.hibernating) this.hibernating(this, kind, data, code, reason);
    else if (kind === "message") this.dispatchEvent(new MessageEvent("message", { data }));
    else this.dispatchEvent(Object.assign(new Event("close"), { code, reason, wasClean: code !== 1006 }));
  }
}

// `new WebSocketPair()` has the ends under 0 and 1.
export class WebSocketPair {
  constructor() {
    [this[0], this[1]] = WebSocket.linked();
  }
}

const StandardResponse = globalThis.Response;

// Node's refuses status 101 and knows no `webSocket`.
export class Response extends StandardResponse {
  constructor(body, init = {}) {
    const upgraded = init?.status === 101;
    super(body, upgraded ? { ...init, status: 200 } : init);
    this.webSocket = init?.webSocket ?? null;
    if (upgraded) Object.defineProperty(this, "status", { value: 101 });
  }
}

function copied(data) {
  const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  return bytes.slice().buffer;
}
