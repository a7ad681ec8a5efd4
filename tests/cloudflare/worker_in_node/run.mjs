// Serves a built Worker on this machine: its Python under Pyodide in this process, around it a stand-in for the
// platform. What it is told on stdin ends it; what it says on stdout is JSON, a line each.
//
//   node run.mjs PYODIDE WS DIST STATE VARS ELSEWHERE
//
// DIST is the folder with wrangler.json, STATE where the objects' storage is kept from one start to the next, VARS the
// variables and secrets as JSON, ELSEWHERE the address at which objects of other Workers are reached, empty if they are
// not. Node 22 or newer.
//
// When Python cannot go on, the next one begins in its place, over the same storage.
//
// Requests to /__harness/ are for the harness: POST /__harness/evict forgets every instance; GET /__harness/memory says
// how many bytes of memory Python has.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Readable } from "node:stream";
import timers from "node:timers";

import { boot } from "../../../src/flue/build/cloudflare/boot.mjs";
import { DurableObjectNamespace, Objects } from "./objects.mjs";
import { RemoteObjects } from "./remote_objects.mjs";
import { Response, WebSocketPair } from "./sockets.mjs";

// Left to Node, errors would be printed with the megabyte-long line of Pyodide's that they passed through.
process.on("uncaughtException", (error) => {
  process.stderr.write(`${error?.message ?? error}\n`);
  if (!aborted) process.exit(1); // what is left of an aborted life, as its finalizers, still makes noise
});
process.on("unhandledRejection", (error) => process.stderr.write(`unhandled: ${error?.message ?? error}\n`));

let aborted = 0;
const [pyodideFolder, wsFolder, dist, state, vars, elsewhere] = process.argv.slice(2);
const { WebSocketServer } = createRequire(join(wsFolder, "package.json"))("ws");
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

class Env {}
class ExecutionContext {
  waitUntil(promise) {
    Promise.resolve(promise).catch((error) => say({ failed: "waitUntil", error: String(error?.message ?? error) }));
  }
  passThroughOnException() {}
  get [Symbol.toStringTag]() {
    return "ExecutionContext";
  }
}

Object.assign(globalThis, { Response, WebSocketPair });
const env = Object.assign(new Env(), JSON.parse(vars));
const helper = {
  cloudflareWorkersModule: { env, waitUntil: (promise) => new ExecutionContext().waitUntil(promise) },
  cloudflareSocketsModule: {},
  doAnImport: (name) => import(name),
  patchWaitUntil() {},
  *patch_env_helper() {},
};
// What the platform does around Python: it looks for classes by their bases, calls `fetch` with converted arguments, and
// the handlers of objects with what it has.
const GLUE = `
import inspect
from types import SimpleNamespace

from pyodide.ffi import to_js
from workers import DurableObject, WorkerEntrypoint, python_from_rpc, python_to_rpc

def classes(module, base):
    found = (getattr(module, name) for name in dir(module) if not name.startswith("_"))
    return to_js([found.__name__ for found in found if inspect.isclass(found) and issubclass(found, base) and found is not base])

async def converted(instance, name, *arguments):
    result = getattr(instance, name)(*map(python_from_rpc, arguments))
    return python_to_rpc(await result if inspect.isawaitable(result) else result)

SimpleNamespace(
    objects=lambda module: classes(module, DurableObject),
    workers=lambda module: classes(module, WorkerEntrypoint),
    converted=converted,
)
`;
const RAW = new Set(["alarm", "webSocketMessage", "webSocketClose", "webSocketError"]);

// One life of Python. `died` is rejected when it cannot go on; then the next life has begun.
async function isolate() {
  let dead = false;
  // What a life has set off ends with it.
  for (const name of ["setTimeout", "setImmediate"]) {
    globalThis[name] = (callback, ...more) => timers[name]((...args) => dead || callback(...args), ...more);
  }
  const life = await boot(pyodideFolder, dist, {
    helper,
    flags: { python_request_headers_preserve_commas: true },
    print: (line) => process.stderr.write(`${line}\n`),
  });
  life.died = new Promise((_, reject) => {
    // The platform does the same in the same place: `abortIsolate` (workerd, src/pyodide/internal/python.ts).
    life.pyodide._api.on_fatal = (error) => {
      dead = true;
      aborted += 1;
      say({ aborted: String(error?.message ?? error) });
      current = isolate();
      for (const objects of all.values()) objects.evict();
      reject(new Error("The isolate was aborted."));
    };
  });
  life.died.catch(() => {});
  life.glue = life.pyodide.runPython(GLUE);
  return life;
}

const all = new Map();
let current = isolate();
const { main, config, glue } = await current;

async function instance(className, context) {
  const { main, glue, died } = await current;
  const python = main[className](context, env);
  return new Proxy(python, {
    get: (target, name) => {
      if (name === "then") return undefined;
      return (...args) =>
        Promise.race([died, RAW.has(name) ? target[name](...args) : glue.converted(target, name, ...args)]);
    },
  });
}

const defined = new Set(glue.objects(main));
for (const { name, class_name: className, script_name: script } of config.durable_objects?.bindings ?? []) {
  if (script) {
    env[name] = new DurableObjectNamespace(new RemoteObjects(elsewhere, name));
    continue;
  }
  if (!defined.has(className)) throw new Error(`the main module has no Durable Object class ${className}`);
  const objects = new Objects(className, state, (context) => instance(className, context), say);
  all.set(className, objects);
  env[name] = new DurableObjectNamespace(objects);
}
Object.assign(env, config.vars);
if (config.ai) env[config.ai.binding] = { run: ask };

// The binding of Workers AI, as far as it is used: it asks a provider of Chat Completions at AI_UPSTREAM.
async function ask(model, inputs, { signal, extraHeaders, gateway, returnRawResponse }) {
  if (!returnRawResponse || gateway?.id !== "default") throw new Error("not asked as it is meant to be");
  return await fetch(`${env.AI_UPSTREAM}/chat/completions`, {
    method: "POST",
    signal,
    headers: { ...extraHeaders, "content-type": "application/json", authorization: "Bearer test-key" },
    body: JSON.stringify({ model, stream_options: { include_usage: true }, ...inputs }),
  });
}
if (!new Set(glue.workers(main)).has("Default")) throw new Error("the main module has no class Default");

async function answer(request) {
  return await (await instance("Default", new ExecutionContext())).fetch(request);
}

async function memory() {
  const { pyodide, seconds, heap } = await current;
  return { heap: pyodide._module.HEAPU8.length, seconds, ...Object.fromEntries(Object.entries(heap)) };
}

async function harness(path) {
  if (path === "/__harness/evict") for (const objects of all.values()) objects.evict();
  return Response.json(await memory());
}

function asRequest(incoming) {
  const url = new URL(incoming.url, `http://${incoming.headers.host}`);
  const headers = new Headers();
  for (let index = 0; index < incoming.rawHeaders.length; index += 2) {
    headers.append(incoming.rawHeaders[index], incoming.rawHeaders[index + 1]);
  }
  const empty = incoming.method === "GET" || incoming.method === "HEAD";
  const abort = new AbortController();
  return [
    new Request(url, {
      method: incoming.method,
      headers,
      body: empty ? undefined : Readable.toWeb(incoming),
      duplex: "half",
      signal: abort.signal,
    }),
    abort,
  ];
}

const server = createServer(async (incoming, outgoing) => {
  try {
    const [request, abort] = asRequest(incoming);
    outgoing.on("close", () => outgoing.writableFinished || abort.abort());
    const path = new URL(request.url).pathname;
    const response = path.startsWith("/__harness/") ? await harness(path) : await answer(request);
    outgoing.writeHead(response.status, [...response.headers].flat());
    outgoing.flushHeaders();
    const reader = response.body?.getReader();
    outgoing.on("close", () => reader?.cancel().catch(() => {}));
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) break;
      if (!outgoing.write(value)) await new Promise((resolve) => outgoing.once("drain", resolve).once("close", resolve));
    }
    outgoing.end();
  } catch (error) {
    say({ failed: incoming.url, error: String(error?.message ?? error) });
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(500).end("The Worker raised an exception.");
  }
});

const upgrades = new WebSocketServer({ noServer: true });
server.on("upgrade", async (incoming, socket, head) => {
  try {
    const [request] = asRequest(incoming);
    const response = await answer(request);
    if (response.status !== 101) {
      socket.end(`HTTP/1.1 ${response.status} Refused\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n${await response.text()}`);
      return;
    }
    upgrades.handleUpgrade(incoming, socket, head, (client) => joined(client, response.webSocket));
  } catch (error) {
    say({ failed: incoming.url, error: String(error?.message ?? error) });
    socket.end("HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\n");
  }
});

function joined(client, end) {
  end.addEventListener("message", ({ data }) => client.send(typeof data === "string" ? data : Buffer.from(data)));
  end.addEventListener("close", ({ code, reason }) => client.close(code === 1005 ? 1000 : code, reason));
  end.accept();
  client.on("message", (data, binary) => end.send(binary ? new Uint8Array(data) : data.toString()));
  client.on("close", (code, reason) => (code === 1006 || code === 1005 ? end.drop() : end.close(code, reason.toString())));
}

for (const objects of all.values()) objects.wake();
server.listen(0, "127.0.0.1", async () => say({ port: server.address().port, ...(await memory()) }));
process.stdin.resume().on("end", () => {
  for (const objects of all.values()) objects.close();
  process.exit(0);
});
