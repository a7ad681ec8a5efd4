// Runs: which there were, and what happened in one.

import { follow, get, path, post } from "./api.js";
import { badge, button, clock, details, duration, errorText, field, fill, guarded, h, json, say, when } from "./dom.js";

const LOOK_MS = 2500;
const STATUSES = ["active", "completed", "errored"];
const MOST_EVENTS = 2000;
const DELTAS = ["text_delta", "thinking_delta", "thinking_start", "thinking_end"];

function address(id) {
  return `#/runs/${encodeURIComponent(id)}`;
}

function name(run) {
  return run.owner?.workflowName ?? `${run.agentName} / ${run.instanceId}`;
}

function row(run) {
  return h("li", {}, h("a", { href: address(run.runId) }, badge(run.status), h("strong", {}, name(run)), h("span", { class: "id" }, run.runId),
    h("span", { class: "hint" }, when(run.startedAt), run.durationMs === undefined ? "" : ` · ${duration(run.durationMs)}`)));
}

/** Keep a list of runs in `element`, the newest first; `more` runs are loaded on demand. */
export function runList(element, query) {
  const rows = h("ul", { class: "rows" });
  const none = h("p", { class: "hint" }, "No runs.");
  const more = h("p", { class: "actions" });
  const problems = h("div", {});
  fill(element, problems, none, rows, more);
  let older = [];
  let cursor;
  let told = "";
  const load = async () => {
    const found = await get(path("runs"), { ...query, limit: 50 });
    if (!older.length) cursor = found.nextCursor;
    const text = JSON.stringify(found.items) + older.length;
    if (text === told || rows.contains(document.activeElement)) return;
    told = text;
    const known = new Set(found.items.map((run) => run.runId));
    fill(rows, [...found.items, ...older.filter((run) => !known.has(run.runId))].map(row));
    none.hidden = found.items.length > 0;
    fill(more, cursor && button("Load more", guarded(problems, loadMore)));
  };
  const loadMore = async () => {
    const found = await get(path("runs"), { ...query, limit: 50, cursor });
    older = [...older, ...found.items];
    cursor = found.nextCursor;
    add();
  };
  const add = () => {
    told = "";
    load().catch((error) => fill(problems, errorText(error)));
  };
  add();
  const timer = setInterval(() => document.visibilityState === "visible" && load().catch(() => {}), LOOK_MS);
  return { close: () => clearInterval(timer) };
}

export function runsView(main, project) {
  const query = new URLSearchParams(location.hash.split("?")[1] ?? "");
  const names = [...project.workflows, ...project.agents.filter((agent) => !agent.conversational)].map((item) => item.name);
  const select = (label, key, options) => {
    const control = h("select", { onchange: () => choose(key, control.value) }, h("option", { value: "" }, "all"),
      options.map((option) => h("option", { value: option, selected: query.get(key) === option }, option)));
    return field(label, control);
  };
  let list = null;
  const choose = (key, value) => {
    if (value) query.set(key, value);
    else query.delete(key);
    history.replaceState(null, "", `#/runs${query.size ? `?${query}` : ""}`);
    show();
  };
  const body = h("div", {});
  const show = () => {
    list?.close();
    list = runList(body, Object.fromEntries(query));
  };
  fill(main, h("h1", {}, "Runs"), h("div", { class: "row" }, select("Status", "status", STATUSES), select("Of", "workflowName", names)), body);
  show();
  return { close: () => list.close(), renew: () => {} };
}

export function runView(main, id) {
  return new RunView(main, id);
}

class RunView {
  constructor(main, id) {
    Object.assign(this, { id, deltas: false, dropped: 0, closed: false });
    this.record = h("div", {}, h("p", { class: "hint" }, "Loading…"));
    this.list = h("ol", { class: "events" });
    this.note = h("p", { class: "hint" });
    this.problems = h("div", {});
    const filter = h("input", { type: "search", placeholder: "tool, log, turn…", autocomplete: "off", oninput: () => this.filter(filter.value) });
    const deltas = h("input", { type: "checkbox", onchange: () => this.tail(deltas.checked) });
    fill(main, h("h1", {}, "Run"), this.problems, this.record,
      h("h2", {}, "Events"), h("div", { class: "row" }, field("Only types with", filter), field("Pieces of answers, too", deltas, { inline: true })),
      this.note, this.list);
    this.wanted = "";
    this.load().then(() => this.tail(false)).catch((error) => {
      fill(this.record);
      fill(this.problems, errorText(error));
    });
    this.timer = setInterval(() => this.run?.status === "active" && this.load().catch(() => {}), LOOK_MS);
  }

  renew() {}

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.unfollow?.();
  }

  async load() {
    const run = await get(path("runs", this.id));
    const text = JSON.stringify(run);
    if (this.closed || text === this.told) return;
    this.told = text;
    this.run = run;
    const link = (label, other) => other && h("p", {}, `${label} `, h("a", { href: address(other) }, other));
    fill(this.record,
      h("p", { class: "facts" }, badge(run.status), h("span", {}, h("strong", {}, name(run))), h("span", { class: "id" }, run.runId),
        h("span", {}, "started ", when(run.startedAt)), run.durationMs === undefined ? null : h("span", {}, duration(run.durationMs))),
      link("It took the place of", run.restartedFromRunId),
      link("It was interrupted, and replaced by", run.restartedAsRunId),
      run.waitingFor && this.waits(run.waitingFor),
      run.status === "active" && h("p", { class: "actions" }, button("Abort", guarded(this.problems, () => this.abort()), { class: "danger" })),
      h("h2", {}, "Payload"), json(run.payload ?? null),
      run.status === "completed" && [h("h2", {}, "Result"), json(run.result ?? null)],
      run.error && [h("h2", {}, "Error"), h("p", { class: "error" }, `${run.error.name}: ${run.error.message}`)]);
  }

  async abort() {
    await post(path("submissions", this.id, "abort"), { reason: "Aborted on the dev page." });
    await this.load();
  }

  waits(waiting) {
    if (waiting.reason !== "event") return h("p", {}, "Sleeps until ", waiting.until ? when(waiting.until) : "it is woken", ".");
    return (waiting.events ?? []).map((event) => {
      const payload = h("textarea", { rows: 3, class: "code", value: "{}", spellcheck: false });
      const problems = h("div", {});
      const send = guarded(problems, async () => {
        let value;
        try {
          value = JSON.parse(payload.value);
        } catch (error) {
          throw new Error(`Not JSON: ${error.message}`);
        }
        await post(path("runs", this.id, "events", event), value);
        say("Sent.");
      });
      return h("form", { class: "question", onsubmit: send }, h("p", {}, "The run waits for the event ", h("code", {}, event), "."),
        field("Payload of the event (JSON)", payload), problems, h("p", { class: "actions" }, h("button", { class: "main" }, "Send event")));
    });
  }

  // --------------------------------------------------------------------------------------------------- events

  tail(deltas) {
    this.unfollow?.();
    this.deltas = deltas;
    this.dropped = 0;
    fill(this.list);
    fill(this.note, "Following…");
    this.unfollow = follow(this.id, {
      onevent: (event) => this.take(event),
      onend: () => {
        this.tell();
        say("The run has ended.");
        this.load().catch((error) => fill(this.problems, errorText(error)));
      },
      onfail: (error) => fill(this.problems, errorText(error)),
    });
  }

  take(event) {
    if (!this.deltas && DELTAS.includes(event.type)) return;
    const item = details([h("span", { class: "id" }, `${event.eventIndex} ${clock(event.timestamp)}`), " ", h("code", {}, event.type), " ",
      h("span", { class: "gist" }, gist(event))], () => json(event));
    const row = h("li", { dataset: { type: event.type }, hidden: !event.type.includes(this.wanted) }, item);
    this.list.append(row);
    if (this.list.childElementCount > MOST_EVENTS) {
      this.list.firstElementChild.remove();
      this.dropped += 1;
      this.tell();
    }
  }

  tell() {
    fill(this.note, this.dropped ? `The first ${this.dropped} events are not shown.` : "");
  }

  filter(text) {
    this.wanted = text.trim();
    for (const row of this.list.children) row.hidden = !row.dataset.type.includes(this.wanted);
  }
}

function gist(event) {
  const text = event.message?.role ?? (typeof event.message === "string" ? event.message : undefined) ?? event.toolName ?? event.text
    ?? event.delta ?? event.operationKind ?? event.purpose ?? event.error?.message ?? "";
  return String(text).slice(0, 120);
}
