// Durable Objects: ids, stubs, namespaces, and for each object its storage, its alarm and, while it is awake, its instance.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { clearTimeout, setTimeout } from "node:timers";

import { DurableObjectStorage } from "./storage.mjs";

const RETRY_MILLISECONDS = 500;
const LONGEST_TIMER = 2 ** 31 - 1;

export class DurableObjectId {
  constructor(hex, name) {
    this.hex = hex;
    this.name = name;
  }

  toString() {
    return this.hex;
  }

  equals(other) {
    return other.hex === this.hex;
  }
}

// All objects of one class. `make(state)` returns an instance: an object with the handlers of the class.
export class Objects {
  #live = new Map();
  #timers = new Map();

  constructor(className, folder, make, log) {
    Object.assign(this, { className, folder: join(folder, className), make, log });
    mkdirSync(this.folder, { recursive: true });
  }

  idFromName(name) {
    return new DurableObjectId(createHash("sha256").update(`${this.className}\0${name}`).digest("hex"), name);
  }

  // Take up the alarms of objects that were there before.
  wake() {
    for (const file of readdirSync(this.folder)) {
      if (!file.endsWith(".sqlite")) continue;
      const place = this.#place(new DurableObjectId(file.slice(0, -".sqlite".length)));
      this.#arm(place, place.storage.alarm);
    }
  }

  async call(id, method, ...args) {
    const place = this.#place(id);
    place.instance ??= this.make(place.state);
    return await (await place.instance)[method](...args);
  }

  // Forget every instance, as the platform does with objects that nobody asks for anything. Sockets stay.
  evict() {
    for (const place of this.#live.values()) place.instance = null;
  }

  close() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    for (const place of this.#live.values()) place.storage.close();
  }

  #place(id) {
    let place = this.#live.get(id.hex);
    if (!place) {
      place = { id, instance: null };
      place.storage = new DurableObjectStorage(join(this.folder, `${id.hex}.sqlite`), (at) => this.#arm(place, at));
      place.state = new DurableObjectState(place, this);
      this.#live.set(id.hex, place);
    }
    return place;
  }

  #arm(place, at) {
    clearTimeout(this.#timers.get(place.id.hex));
    if (at === null) return;
    const delay = Math.min(Math.max(0, at - Date.now()), LONGEST_TIMER);
    this.#timers.set(place.id.hex, setTimeout(() => this.#ring(place), delay));
  }

  async #ring(place) {
    if (place.storage.alarm === null || place.storage.alarm > Date.now()) return this.#arm(place, place.storage.alarm);
    place.storage.takeAlarm();
    this.log({ alarm: this.className, object: place.id.hex });
    try {
      await this.call(place.id, "alarm", { isRetry: false, retryCount: 0 });
    } catch (error) {
      this.log({ failed: "alarm", error: String(error?.message ?? error) });
      if (place.storage.alarm === null) await place.storage.setAlarm(Date.now() + RETRY_MILLISECONDS);
    }
  }
}

class DurableObjectState {
  #place;
  #objects;
  #sockets = [];

  constructor(place, objects) {
    this.#place = place;
    this.#objects = objects;
    this.id = place.id;
    this.storage = place.storage;
  }

  waitUntil() {}

  async blockConcurrencyWhile(callback) {
    return await callback();
  }

  acceptWebSocket(socket, tags = []) {
    this.#sockets.push({ socket, tags: [...tags] });
    socket.hibernating = (...event) => this.#event(...event);
    socket.accept();
  }

  getWebSockets(tag) {
    return this.#sockets.filter(({ tags }) => tag === undefined || tags.includes(tag)).map(({ socket }) => socket);
  }

  getTags(socket) {
    return this.#sockets.find((entry) => entry.socket === socket)?.tags ?? [];
  }

  setWebSocketAutoResponse() {}

  abort() {
    this.#place.instance = null;
  }

  #event(socket, kind, data, code, reason) {
    const done =
      kind === "message"
        ? this.#objects.call(this.#place.id, "webSocketMessage", socket, data)
        : this.#objects.call(this.#place.id, "webSocketClose", socket, code, reason, code !== 1006);
    if (kind === "close") this.#sockets = this.#sockets.filter((entry) => entry.socket !== socket);
    done.catch((error) => this.#objects.log({ failed: kind, error: String(error?.message ?? error) }));
  }
}

// What `env` has for a class.
export class DurableObjectNamespace {
  #objects;

  constructor(objects) {
    this.#objects = objects;
  }

  idFromName(name) {
    return this.#objects.idFromName(name);
  }

  idFromString(hex) {
    return new DurableObjectId(hex);
  }

  newUniqueId() {
    return new DurableObjectId(createHash("sha256").update(`${Math.random()}`).digest("hex"));
  }

  get(id) {
    return new Proxy(new DurableObject(id, this.#objects), {
      get: (target, name) =>
        typeof name !== "string" || name in target || name === "then"
          ? target[name]
          : (...args) => this.#objects.call(id, name, ...args),
    });
  }

  getByName(name) {
    return this.get(this.idFromName(name));
  }
}

class DurableObject {
  #objects;

  constructor(id, objects) {
    this.id = id;
    this.name = id.name;
    this.#objects = objects;
    this.fetch = (input, init) => this.#objects.call(id, "fetch", new Request(input, init));
  }
}

