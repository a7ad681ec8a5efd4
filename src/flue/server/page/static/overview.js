// What the project has, an agent with its conversations, and a workflow with its form.

import { get, path, post } from "./api.js";
import { buildForm } from "./form.js";
import { badge, button, complain, count, errorText, field, fill, guarded, h, when } from "./dom.js";
import { runList } from "./runs.js";

const DEFAULT_SESSION = "default";

export function chatAddress(name, id, session) {
  return `#/agents/${[name, id, session].map(encodeURIComponent).join("/")}`;
}

export function homeView(main, project) {
  const card = (kind, item) => h("li", { class: "card" },
    h("h3", {}, h("a", { href: `#/${kind}/${encodeURIComponent(item.name)}` }, item.name)),
    facts(item),
    h("p", { class: "text" }, item.description.split("\n\n")[0]));
  const section = (kind, title, items, hint) => h("section", {}, h("h2", {}, title),
    items.length ? h("ul", { class: "cards" }, items.map((item) => card(kind, item))) : h("p", { class: "hint" }, hint));
  fill(main, h("h1", {}, project.name || "Project"),
    section("agents", "Agents", project.agents, "There are none: write one in agents/."),
    section("workflows", "Workflows", project.workflows, "There are none: write one in workflows/."));
  return { renew: (newer) => homeView(main, newer) };
}

function facts(item) {
  const list = [item.file];
  if (item.model) list.push(item.model);
  if (item.conversational === false) list.push("function agent");
  list.push(item.http ? "HTTP" : "no route", ...(item.websocket ? ["WebSocket"] : []));
  return h("p", { class: "facts" }, list.map((fact) => h("span", {}, fact)));
}

function heading(item) {
  const named = (label, names) => (names?.length ? h("p", {}, `${label}: `, names.map((name) => [h("code", {}, name), " "])) : null);
  return [
    h("h1", {}, item.name),
    facts(item),
    h("p", { class: "text" }, item.description),
    named("Tools", item.tools),
    named("Skills", item.skills),
    named("Subagents", item.subagents),
    item.budget && named("Budget", Object.entries(item.budget).map(([name, limit]) => `${name} ${limit}`)),
    item.schemaProblem && errorText({ message: item.schemaProblem }),
  ];
}

export function agentView(main, agent) {
  if (agent === null) return null;
  return agent.conversational ? conversationsView(main, agent) : functionView(main, agent);
}

function conversationsView(main, agent) {
  const instance = h("input", { value: "me", required: true, maxLength: 512, autocomplete: "off", spellcheck: false });
  const session = h("input", { value: DEFAULT_SESSION, required: true, maxLength: 512, autocomplete: "off", spellcheck: false });
  const open = (event) => {
    event.preventDefault();
    for (const control of [instance, session]) complain(control, control.value.trim() ? "" : "Needs a name.");
    if (instance.value.trim() && session.value.trim()) location.hash = chatAddress(agent.name, instance.value, session.value);
  };
  const list = h("div", {});
  fill(main, heading(agent),
    h("form", { class: "row", onsubmit: open, noValidate: true },
      field("Instance", instance, { hint: "whom or what it works for" }),
      field("Session", session, { hint: "a conversation of it" }),
      h("button", { class: "main" }, "Open")),
    h("h2", {}, "Conversations"), list);
  const load = () => showConversations(list, agent.name).catch((error) => fill(list, errorText(error)));
  load();
  const timer = setInterval(load, 5000);
  return { close: () => clearInterval(timer) };
}

async function showConversations(list, name) {
  const found = await get(path("agents", name, "sessions"));
  if (list.contains(document.activeElement)) return; // not under somebody's fingers
  if (!found.listable) {
    fill(list, h("p", { class: "hint" }, "The agent's own session store does not tell which there are."));
    return;
  }
  const row = (item) => h("li", {}, h("a", { href: chatAddress(name, item.instance, item.session) },
    h("strong", {}, item.instance), h("span", {}, item.session),
    item.waiting && badge("waiting"),
    h("span", { class: "hint" }, `${count(item.entries)} entries · `, when(item.updatedAt))));
  const own = found.items.filter((item) => !item.session.startsWith("task:"));
  const tasks = found.items.filter((item) => item.session.startsWith("task:"));
  fill(list,
    own.length ? h("ul", { class: "rows" }, own.map(row)) : h("p", { class: "hint" }, "None yet."),
    tasks.length ? h("details", {}, h("summary", {}, `Tasks of subagents (${tasks.length})`), h("ul", { class: "rows" }, tasks.map(row))) : null);
}

function functionView(main, agent) {
  const instance = h("input", { value: "me", required: true, maxLength: 512, autocomplete: "off" });
  return starter(main, agent, "Run", field("Instance", instance), () => {
    complain(instance, instance.value.trim() ? "" : "Needs a name.");
    return instance.value.trim() ? path("agents", agent.name, instance.value, "runs") : null;
  });
}

export function workflowView(main, workflow) {
  if (workflow === null) return null;
  return starter(main, workflow, "Run workflow", null, () => path("workflows", workflow.name, "runs"));
}

function starter(main, item, label, before, address) {
  const form = buildForm(item.schema);
  const problems = h("div", {});
  const anyway = button("Run anyway", null, { hidden: true });
  const start = async (query) => {
    anyway.hidden = true;
    const target = address();
    const { value, ok } = form.read();
    if (!ok || target === null) return;
    try {
      const { runId } = await post(`${target}${query}`, value);
      location.hash = `#/runs/${encodeURIComponent(runId)}`;
    } catch (error) {
      form.complain(error.issues ?? []);
      anyway.hidden = error.type !== "validation_failed";
      throw error;
    }
  };
  const submit = h("button", { class: "main" }, label);
  anyway.addEventListener("click", guarded(problems, () => start("?unchecked=1")));
  const runs = h("div", {});
  fill(main, heading(item),
    h("form", { onsubmit: guarded(problems, () => start(""), () => [submit]), noValidate: true },
      before, form.element, problems, h("p", { class: "actions" }, submit, anyway)),
    h("h2", {}, "Runs"), runs);
  const list = runList(runs, { workflowName: item.name });
  return { close: list.close };
}
