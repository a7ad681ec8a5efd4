// A conversation with an agent: what was said, what is going on, and what a person can do about it.

import { follow, get, path, post } from "./api.js";
import { Calls, entryElement, Live } from "./messages.js";
import { chatAddress } from "./overview.js";
import { FilesPanel } from "./files.js";
import { badge, button, complain, errorText, field, fill, guarded, h, say, usageText } from "./dom.js";

const LOOK_MS = 1500;
const FRAME_MS = 30;
// Pieces of messages come as deltas; whole requests are for the list of events.
const TYPES = [
  "message_start", "message_end", "text_delta", "thinking_delta", "tool_start", "tool_call", "approval_request", "approval",
  "task_start", "task", "compaction", "log", "operation", "turn",
];
const drafts = new Map();

export function chatView(main, agent, instance, session) {
  return agent?.conversational ? new Chat(main, agent, instance, session) : null;
}

class Chat {
  constructor(main, agent, instance, session) {
    Object.assign(this, { agent, instance, session, entries: [], work: [], following: null, leaf: undefined, closed: false });
    this.calls = new Calls({ decide: (...decision) => this.decide(...decision) });
    this.log = h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Conversation" });
    this.tail = h("div", {});
    this.waiting = h("div", {});
    this.queue = h("ul", { class: "rows" });
    this.totals = h("span", { class: "hint" });
    this.problems = h("div", {});
    this.earlier = h("div", {});
    this.files = new FilesPanel(this.address("files"));
    fill(main, h("h1", {}, agent.name), h("p", { class: "facts" }, h("a", { href: `#/agents/${encodeURIComponent(agent.name)}` }, "all conversations"),
      h("span", {}, "instance ", h("strong", {}, instance)), h("span", {}, "session ", h("strong", {}, session)), this.totals),
    this.files.element, this.earlier, this.log, this.tail, this.waiting, this.queue, this.composer());
    this.load().catch((error) => fill(this.problems, errorText(error)));
    this.timer = setInterval(() => this.look().catch(() => {}), LOOK_MS);
  }

  address(...parts) {
    return path("agents", this.agent.name, this.instance, "sessions", this.session, ...parts);
  }

  focus() {
    this.input?.focus({ preventScroll: true });
  }

  renew(project) {
    // Under a new version of the project; what is being said goes on.
    this.agent = project.agents.find((item) => item.name === this.agent.name) ?? this.agent;
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.unfollow?.();
    this.files.close();
  }

  composer() {
    if (this.session.startsWith("task:")) return h("p", { class: "hint" }, "The conversation of a task; only its agent goes on with it.");
    this.input = h("textarea", { rows: 2, placeholder: "Enter sends, Shift+Enter begins a new line" });
    this.input.value = drafts.get(this.address()) ?? "";
    this.input.addEventListener("input", () => drafts.set(this.address(), this.input.value));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.submit.disabled) this.form.requestSubmit();
      }
    });
    this.submit = h("button", { class: "main" }, "Send");
    this.aborter = button("Abort", guarded(this.problems, () => this.abort(this.work[0]?.submissionId)), { class: "danger", hidden: true });
    const send = async () => {
      const message = this.input.value;
      complain(this.input, message.trim() ? "" : "Write something first.");
      if (!message.trim()) return;
      await post(this.address("prompts"), { message });
      this.input.value = "";
      drafts.delete(this.address());
      await this.load();
      this.toBottom();
    };
    this.form = h("form", { class: "composer", noValidate: true, onsubmit: guarded(this.problems, send, () => [this.submit]) },
      this.problems, h("div", { class: "row" }, field("Message", this.input), h("p", { class: "actions" }, this.submit, this.aborter)));
    return this.form;
  }

  async abort(id) {
    if (id) await post(path("submissions", id, "abort"), { reason: "Aborted on the dev page." });
    await this.look();
  }

  async decide(callId, approved, reason) {
    await post(this.address("approvals", callId), { approved, reason });
    say(approved ? "Approved." : "Denied.");
  }

  // ------------------------------------------------------------------------------------------- what was said

  async load() {
    const found = await get(this.address());
    if (this.closed) return;
    this.leaf = found.leaf;
    this.work = found.work;
    const first = this.entries.findIndex((entry) => entry.id === found.entries[0]?.id);
    this.entries = first > 0 ? [...this.entries.slice(0, first), ...found.entries] : found.entries;
    if (first <= 0) this.more = found.more;
    this.branchedFrom = found.branchedFrom;
    fill(this.totals, usageText(found.usage));
    this.show();
    this.showWork();
  }

  async loadEarlier() {
    const found = await get(this.address(), { before: this.entries[0].id });
    this.entries = [...found.entries, ...this.entries];
    this.more = found.more;
    const height = document.documentElement.scrollHeight;
    this.show();
    window.scrollBy(0, document.documentElement.scrollHeight - height);
  }

  show() {
    const atBottom = this.atBottom();
    const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
    this.calls.clear();
    // What is under way is told by its events, from its beginning.
    const running = this.work[0];
    const began = running?.startedAt ? Date.parse(running.startedAt) : Infinity;
    const past = this.entries.filter((entry) => Date.parse(entry.timestamp) < began);
    fill(this.earlier, this.more && button("Load earlier messages", guarded(this.problems, () => this.loadEarlier())),
      this.branchedFrom && h("p", { class: "hint" }, "Continued from ", h("a", { href: chatAddress(this.agent.name, this.instance, this.branchedFrom.session) }, this.branchedFrom.session), "."));
    fill(this.log, past.map((entry) => entryElement(entry, this.calls, (item) => this.actions(item))));
    if (!past.length && !running) fill(this.log, h("p", { class: "hint" }, "Nothing has been said yet."));
    this.unfollow?.();
    this.unfollow = null;
    this.following = null;
    fill(this.tail);
    if (running) this.follow(running);
    if (focused) [...this.log.querySelectorAll("[data-key]")].find((item) => item.dataset.key === focused)?.querySelector("summary")?.focus();
    if (atBottom) this.toBottom();
  }

  actions(entry) {
    if (this.session.startsWith("task:")) return [];
    if (entry.message.role === "user") {
      const text = entry.message.content.map((block) => block.text ?? "").join("\n");
      return [button("Edit and send again", () => this.branch(entry.parentId, text), { class: "small quiet" })];
    }
    return [button("Continue from here", () => this.branch(entry.id, ""), { class: "small quiet" })];
  }

  /** Ask for the name of a session that begins with what was said up to an entry, and go there. */
  branch(entryId, draft) {
    const name = h("input", { value: `${this.session}-${1 + Math.floor(Math.random() * 9999)}`, maxLength: 512, autocomplete: "off", spellcheck: false });
    const problems = h("div", {});
    const go = async () => {
      complain(name, name.value.trim() ? "" : "Needs a name.");
      if (!name.value.trim()) return;
      if (entryId !== null) await post(this.address("branches"), { entryId, session: name.value });
      if (draft) drafts.set(path("agents", this.agent.name, this.instance, "sessions", name.value), draft);
      dialog.close();
      location.hash = chatAddress(this.agent.name, this.instance, name.value);
    };
    const submit = h("button", { class: "main" }, "Continue there");
    const dialog = h("dialog", { "aria-label": "Continue in a new session", onclose: () => dialog.remove() },
      h("form", { noValidate: true, onsubmit: guarded(problems, go, () => [submit]) },
        h("h2", {}, "Continue in a new session"),
        h("p", {}, "It begins with a copy of the conversation up to here. This one stays as it is."),
        field("Name of the session", name), problems,
        h("p", { class: "actions" }, submit, button("Cancel", () => dialog.close()))));
    document.body.append(dialog);
    dialog.showModal();
    name.select();
  }

  // ------------------------------------------------------------------------------------------ what is going on

  follow(running) {
    this.following = running.submissionId;
    this.live = new Live(this.session, this.calls);
    fill(this.tail, this.live.element);
    const again = () => {
      if (!this.closed && this.following === running.submissionId) this.load().catch((error) => fill(this.problems, errorText(error)));
    };
    this.unfollow = follow(running.submissionId, {
      types: TYPES,
      onevent: (event) => {
        // Many come in one moment; the page is laid out once for all of them.
        if (this.live.waiting.push(event) === 1) setTimeout(() => this.take(), FRAME_MS);
      },
      onend: (record) => {
        this.take();
        this.leaf = null;
        say(record.status === "completed" ? "The answer is complete." : `The prompt has ${record.status}.`);
        if (record.error) fill(this.problems, errorText({ message: `${record.error.name}: ${record.error.message}` }));
        again();
        this.files.changed();
      },
      onfail: (error) => fill(this.problems, errorText(error)),
    });
  }

  take() {
    const events = this.live.waiting.splice(0);
    if (!events.length || this.closed) return;
    const atBottom = this.atBottom();
    for (const event of events) this.live.take(event);
    if (atBottom) this.toBottom();
    const asked = events.findLast((event) => event.type === "approval_request");
    if (asked) say(`Approval needed: ${asked.toolName}`);
    if (events.some((event) => event.type === "tool_call")) this.files.changed();
  }

  async look() {
    if (document.visibilityState !== "visible") return;
    const found = await get(this.address("work"));
    if (this.closed) return;
    const before = this.work[0];
    this.work = found.work;
    const first = found.work[0]?.submissionId ?? null;
    const begun = found.work[0]?.startedAt !== before?.startedAt;
    if (first !== this.following || begun || (first === null && found.leaf !== this.leaf)) await this.load();
    else this.showWork();
  }

  showWork() {
    const [running, ...queued] = this.work;
    if (this.aborter) this.aborter.hidden = !running;
    if (this.submit) fill(this.submit, running ? "Queue" : "Send");
    const asks = running?.waitingFor?.reason === "budget" ? running.submissionId : "";
    if (asks !== (this.asked ?? "")) {
      const atBottom = this.atBottom();
      this.asked = asks;
      fill(this.waiting, asks && this.budgetForm());
      if (atBottom) this.toBottom();
    }
    fill(this.queue, queued.map((item) => h("li", {}, badge("queued"), h("span", { class: "gist" }, String(item.input ?? "")),
      button("Abort", guarded(this.problems, () => this.abort(item.submissionId)), { class: "small" }))));
  }

  budgetForm() {
    say("The budget is used up.");
    const limits = ["usd", "tokens", "turns", "seconds"];
    const controls = limits.map((name) => h("input", { inputMode: "decimal", placeholder: String(this.agent.budget?.[name] ?? ""), autocomplete: "off" }));
    const problems = h("div", {});
    const submit = h("button", { class: "main" }, "Go on");
    const raise = async () => {
      const wrong = controls.filter((control) => control.value.trim() && !(Number(control.value) > 0));
      for (const control of controls) complain(control, wrong.includes(control) ? "A positive number, please." : "");
      if (wrong.length) return;
      const given = limits.map((name, index) => [name, controls[index].value.trim()]).filter(([, value]) => value !== "");
      await post(this.address("budget"), Object.fromEntries(given.map(([name, value]) => [name, Number(value)])));
      fill(this.waiting, h("p", { class: "hint" }, "Going on…"));
    };
    return h("form", { class: "question", noValidate: true, onsubmit: guarded(problems, raise, () => [submit]), "aria-label": "Budget" },
      h("p", {}, "The budget is used up; the prompt waits. Give it another one: limits that are left empty do not count."),
      h("div", { class: "row" }, limits.map((name, index) => field(name, controls[index]))),
      problems, h("p", { class: "actions" }, submit));
  }

  atBottom() {
    return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 80;
  }

  toBottom() {
    window.scrollTo(0, document.documentElement.scrollHeight);
  }
}
