// A Worker with one Durable Object that does to its storage what it is asked to, and tells what came of it.
import { DurableObject } from "cloudflare:workers";

function attempt(work) {
  try {
    return work();
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}

export class Probe extends DurableObject {
  exec({ sql, bindings }) {
    return attempt(() => ({ rows: this.ctx.storage.sql.exec(sql, ...bindings).raw().toArray() }));
  }

  transaction({ steps, fails }) {
    let inner = [];
    const outer = attempt(() =>
      this.ctx.storage.transactionSync(() => {
        inner = steps.map((step) => this.now(step));
        if (fails) throw new Error("rolled back");
        return {};
      }),
    );
    return { ...outer, steps: inner };
  }

  // What is done without waiting, also in a transaction.
  now(step) {
    if (step.do === "exec") return this.exec(step);
    if (step.do === "transaction") return this.transaction(step);
    if (step.do === "setAlarm") return void this.ctx.storage.setAlarm(step.at).catch(() => {}) ?? {};
    return void this.ctx.storage.deleteAlarm() ?? {};
  }

  async fetch(request) {
    const answers = [];
    for (const step of await request.json()) {
      if (step.do === "getAlarm") answers.push({ alarm: await this.ctx.storage.getAlarm() });
      else if (step.do === "setAlarm") {
        const set = this.ctx.storage.setAlarm(step.at);
        answers.push(await set.then(() => ({}), (error) => ({ error: `${error.name}: ${error.message}` })));
      } else answers.push(this.now(step));
    }
    return Response.json(answers);
  }

  async alarm() {}
}

export default {
  fetch(request, env) {
    return env.PROBE.get(env.PROBE.newUniqueId()).fetch(request);
  },
};
