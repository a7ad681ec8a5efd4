// Objects of another Worker, which a binding names by `script_name`: their methods are called at an address, as
// tests/cloudflare/containers/workers/bridge.js answers them.
import { DurableObjectId } from "./objects.mjs";

export class RemoteObjects {
  constructor(address, binding) {
    Object.assign(this, { address, binding });
  }

  idFromName(name) {
    return new DurableObjectId(name, name);
  }

  async call(id, method, ...args) {
    const body = JSON.stringify({ binding: this.binding, name: id.name, method, args });
    const response = await fetch(this.address, { method: "POST", body });
    if (!response.headers.get("content-type")?.includes("json")) return response.body;
    const { result, error } = await response.json();
    if (!error) return result ?? undefined;
    throw Object.assign(new Error(error.message), { name: error.name, errorResponse: { code: error.code } });
  }
}
