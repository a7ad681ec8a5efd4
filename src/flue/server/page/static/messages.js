// Messages of a conversation, as they were or as they come in.

import { badge, button, count, details, duration, fill, guarded, h, json, longText, usageText, visible } from "./dom.js";

const SHOWN_IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const LIVE_CAP = 50_000;

/** Content blocks of a message, without its tool calls. */
function blocks(content) {
  return content.filter((block) => block.type !== "toolCall").map((block) => {
    if (block.type === "thinking") return thought(block.redacted ? "(redacted)" : block.thinking);
    if (block.type === "image") return image(block);
    return longText(block.text ?? "");
  });
}

function image(block) {
  if (!SHOWN_IMAGES.has(block.mimeType)) return h("p", { class: "hint" }, `An image (${block.mimeType}).`);
  return h("img", { class: "image", alt: "An image of the conversation", src: `data:${block.mimeType};base64,${block.data}` });
}

function thought(text) {
  return details("Thinking", () => longText(text), { class: "thinking" });
}

/** What every part of a conversation shares: the tool calls by id, and which of them somebody has opened. */
export class Calls {
  constructor({ decide }) {
    this.decide = decide;
    this.opened = new Set();
    this.byId = new Map();
  }

  clear() {
    this.byId.clear();
  }

  /** A tool call of an answer. Some models use an id again: the newest one counts. */
  begin(id, name, args, parent) {
    const call = new ToolCall(id, name, args, this);
    this.byId.set(id, call);
    parent.append(call.element);
    return call;
  }

  get(id, name, args, parent) {
    return this.byId.get(id) ?? this.begin(id, name, args, parent);
  }
}

class ToolCall {
  constructor(id, name, args, calls) {
    this.id = id;
    this.calls = calls;
    this.state = h("span", { class: "hint" });
    this.result = h("div", {}, h("p", { class: "hint" }, "No result yet."));
    this.question = h("div", {});
    this.children = h("div", {});
    this.element = h("div", { class: "call" },
      details([h("code", {}, name), " ", h("span", { class: "gist" }, gist(args)), " ", this.state],
        () => h("div", {}, h("h4", {}, "Arguments"), json(args), h("h4", {}, "Result"), this.result),
        { open: calls.opened.has(id), dataset: { key: `call ${id}` }, ontoggle: (event) => this.note(event.currentTarget.open) }),
      this.question, this.children);
  }

  note(open) {
    if (open) this.calls.opened.add(this.id);
    else this.calls.opened.delete(this.id);
  }

  running() {
    fill(this.state, "running…");
  }

  finish(isError, ms) {
    fill(this.question);
    fill(this.state, isError ? badge("failed") : "", ms === undefined ? "" : ` ${duration(ms)}`);
  }

  show(content) {
    this.hasResult = true;
    fill(this.result, content);
  }

  ask(name) {
    const reason = h("input", { placeholder: "Reason, if you like", "aria-label": `Reason for the decision on ${name}`, maxLength: 2000 });
    const problems = h("div", {});
    const answer = (approved) => guarded(problems, async () => {
      await this.calls.decide(this.id, approved, reason.value);
      this.decided(approved, reason.value);
    });
    fill(this.state, badge("waiting"));
    fill(this.question, h("div", { class: "question", role: "group", "aria-label": `Approval of ${name}` },
      h("p", {}, "The agent asks for permission to call ", h("code", {}, name), "."),
      h("p", { class: "actions" }, reason, button("Approve", answer(true), { class: "main" }), button("Deny", answer(false), { class: "danger" })),
      problems));
  }

  decided(approved, reason) {
    fill(this.question, h("p", { class: "hint" }, approved ? "Approved" : "Denied", reason ? `: ${reason}` : "."));
    fill(this.state, approved ? "approved" : "denied");
  }
}

function gist(args) {
  if (args === null || typeof args !== "object") return String(args ?? "");
  const text = Object.values(args).map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(" ");
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** One entry of a stored conversation; null for tool results, which go to their calls. */
export function entryElement(entry, calls, actions) {
  if (entry.type !== "message") {
    const title = entry.type === "compaction" ? `Summary of what came before (${count(entry.tokensBefore)} tokens)` : "Summary of another branch";
    return h("article", { class: "note" }, details(title, () => longText(entry.summary)));
  }
  const message = entry.message;
  if (message.role === "toolResult") {
    const lost = h("article", { class: "note" }); // of a call that is not shown
    toolResult(message, calls, lost);
    return lost.childElementCount ? lost : null;
  }
  if (message.role === "user") {
    const element = userElement(message, entry.source);
    element.append(h("p", { class: "foot" }, actions(entry)));
    return element;
  }
  const answer = new Answer(calls).complete(message);
  answer.foot.append(...actions(entry));
  return answer.element;
}

export function userElement(message, source) {
  const who = source && source !== "prompt" ? source : "You";
  return h("article", { class: "user" }, h("h3", {}, who), blocks(message.content));
}

export function toolResult(message, calls, parent) {
  const call = calls.get(message.toolCallId, message.toolName, {}, parent);
  call.finish(message.isError);
  call.show([blocks(message.content), message.details == null ? null : details("Details", () => json(message.details))]);
}

/** An answer of the model, which may still be coming in. */
export class Answer {
  constructor(calls) {
    this.calls = calls;
    this.body = h("div", {});
    this.toolCalls = h("div", {});
    this.foot = h("p", { class: "foot" });
    this.element = h("article", { class: "assistant" }, h("h3", {}, "Agent"), this.body, this.toolCalls, this.foot);
    this.part = null;
  }

  /** Append what has just come of the text or the thinking. */
  append(kind, text) {
    if (this.part?.kind !== kind) {
      const node = document.createTextNode("");
      const holder = h("div", { class: "text" }, node);
      this.body.append(kind === "thinking" ? details("Thinking", () => holder, { open: true, class: "thinking" }) : holder);
      this.part = { kind, node, length: 0 };
    }
    if (this.part.length > LIVE_CAP) return;
    this.part.length += text.length;
    this.part.node.appendData(visible(text));
    if (this.part.length > LIVE_CAP) this.body.append(h("p", { class: "hint" }, "… more is coming; it is shown when it is complete."));
  }

  complete(message) {
    this.part = null;
    fill(this.body, blocks(message.content));
    for (const block of message.content) {
      if (block.type === "toolCall") this.calls.begin(block.id, block.name, block.arguments, this.toolCalls);
    }
    if (message.stopReason === "error" || message.errorMessage) {
      this.body.append(h("p", { class: "error" }, message.errorMessage ?? "The model failed."));
    } else if (message.stopReason === "aborted" || message.stopReason === "length") {
      this.body.append(h("p", { class: "hint" }, message.stopReason === "aborted" ? "(aborted)" : "(cut off: the answer was too long)"));
    }
    fill(this.foot, h("span", {}, [message.model, usageText(message.usage)].filter(Boolean).join(" · ")));
    return this;
  }
}

/** What a prompt does, event by event. What its tasks do goes into boxes of their own. */
export class Live {
  constructor(session, calls) {
    this.session = session;
    this.calls = calls;
    this.element = h("div", {});
    this.answer = null;
    this.tasks = new Map();
    this.waiting = [];
  }

  take(event) {
    if (event.type === "task_start") this.task(event);
    else if (!event.taskId || event.session === this.session) this.apply(event);
    else {
      const task = this.tasks.get(event.taskId) ?? this.task({ ...event, session: event.parentSession });
      task.session = event.session;
      task.apply(event);
    }
  }

  apply(event) {
    switch (event.type) {
      case "message_start":
        if (event.message.role === "assistant") this.begin();
        break;
      case "message_end":
        this.message(event.message);
        break;
      case "thinking_delta":
        (this.answer ?? this.begin()).append("thinking", event.delta);
        break;
      case "text_delta":
        (this.answer ?? this.begin()).append("text", event.text);
        break;
      case "tool_start":
        this.call(event).running();
        break;
      case "tool_call": {
        const call = this.call(event);
        call.finish(event.isError, event.durationMs);
        if (!call.hasResult) call.show(Array.isArray(event.result?.content) ? blocks(event.result.content) : json(event.result));
        break;
      }
      case "approval_request":
        this.call(event).ask(event.toolName);
        break;
      case "approval":
        this.call(event).decided(event.approved, event.reason);
        break;
      case "compaction":
        this.note(`The conversation was summarised: ${count(event.messagesBefore)} messages became ${count(event.messagesAfter)}.`);
        break;
      case "log":
        this.note(`${event.level}: ${event.message}`);
        break;
      case "operation":
        if (event.isError) this.note(`${event.error?.name ?? "Error"}: ${event.error?.message ?? ""}`, "error");
        break;
      default:
    }
  }

  begin() {
    this.answer = new Answer(this.calls);
    this.last = this.answer;
    this.element.append(this.answer.element);
    return this.answer;
  }

  message(message) {
    if (message.truncated) {
      this.note("(a message too long for the log; it is shown when the prompt has ended)");
      this.answer = null;
    } else if (message.role === "assistant") {
      (this.answer ?? this.begin()).complete(message);
      this.answer = null;
    } else if (message.role === "user") {
      this.element.append(userElement(message));
    } else {
      toolResult(message, this.calls, this.last?.toolCalls ?? this.element);
    }
  }

  call(event) {
    return this.calls.get(event.toolCallId, event.toolName, event.args ?? {}, this.last?.toolCalls ?? this.element);
  }

  note(text, kind = "hint") {
    this.element.append(h("p", { class: kind }, text));
  }

  /** Make the box of a task, in what its session is saying. */
  task({ taskId, session, agent, prompt = "" }) {
    const task = new Live(null, this.calls);
    const parent = session === this.session ? this : [...this.tasks.values()].find((other) => other.session === session) ?? this;
    const title = ["Task ", agent ? h("code", {}, agent) : "", " ", h("span", { class: "gist" }, prompt.slice(0, 100))];
    (parent.last?.toolCalls ?? parent.element).append(details(title, () => task.element, { class: "task", open: true }));
    this.tasks.set(taskId, task);
    return task;
  }
}
