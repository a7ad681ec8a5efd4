// Elements, and text as it is shown. Whatever comes from a model, a tool or a file goes through `visible` into text
// nodes; nothing here, or elsewhere on the page, makes markup of text.

const CAP = 20_000;

/** Make an element: `props` are properties, or attributes where their name has a hyphen; `on…` are listeners. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else if (name === "class") element.className = value;
    else if (name === "for") element.htmlFor = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(String(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

// Control characters (an escape sequence would otherwise vanish), and those that turn the direction of text around.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Return text in which control characters can be seen. */
export function visible(text) {
  return text.replace(/\r\n/g, "\n").replace(UNSEEN, (character) => {
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

/** Show text with its lines, long text only up to a point: the rest on demand. */
export function longText(text, props = { class: "text" }) {
  const element = h("div", { tabIndex: -1, ...props });
  if (text.length <= CAP) return fill(element, text);
  const more = h("button", { type: "button", class: "small", onclick: () => fill(element, text) },
    `Show all ${count(text.length)} characters`);
  return fill(element, text.slice(0, CAP), "…\n", more);
}

/** Show a JSON value. */
export function json(value) {
  return longText(typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "null", { class: "code" });
}

export function details(summary, build, { open = false, ...props } = {}) {
  const body = h("div", { class: "inside" });
  const element = h("details", { open, ...props }, h("summary", {}, summary), body);
  let built = false;
  const show = () => {
    if (!element.open || built) return;
    built = true;
    add(body, [build()]);
  };
  element.addEventListener("toggle", show);
  show();
  return element;
}

let unique = 0;

export function uniqueId(stem) {
  unique += 1;
  return `${stem}-${unique}`;
}

/** A label and its control, with room for what is wrong. */
export function field(label, control, { hint = "", inline = false } = {}) {
  control.id ||= uniqueId("field");
  const problem = h("p", { class: "problem", id: `${control.id}-problem`, hidden: true });
  const help = hint ? h("p", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  control.setAttribute("aria-describedby", `${help ? `${help.id} ` : ""}${problem.id}`);
  const named = h("label", { for: control.id }, label);
  return h("div", { class: inline ? "field inline" : "field" }, inline ? [control, named] : [named, control], help, problem);
}

export function complain(control, message) {
  const problem = document.getElementById(`${control.id}-problem`) ?? control.parentElement?.querySelector(".problem");
  if (problem) {
    problem.hidden = !message;
    fill(problem, message);
  }
  if (message) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

export function button(label, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, label);
}

/** A button, or a form's submit, that shows in `problems` what goes wrong, and cannot be pressed twice meanwhile. */
export function guarded(problems, work, controls = () => []) {
  return async (event) => {
    event?.preventDefault();
    const held = [event?.currentTarget, ...controls()].filter((item) => item instanceof HTMLButtonElement);
    for (const item of held) item.disabled = true;
    fill(problems);
    try {
      await work(event);
    } catch (error) {
      fill(problems, errorText(error));
    } finally {
      for (const item of held) item.disabled = false;
    }
  };
}

export function errorText(error) {
  return h("p", { class: "error", role: "alert" }, [error.message, error.details].filter(Boolean).join(" "));
}

export function badge(status) {
  return h("span", { class: `badge ${status}` }, status);
}

/** Tell those who do not look at the screen. */
export function say(text) {
  fill(document.getElementById("said"), text);
}

const whole = new Intl.NumberFormat("en");

export function count(number) {
  return whole.format(number);
}

export function bytes(size) {
  return size < 1024 ? `${size} B` : size < 1024 ** 2 ? `${(size / 1024).toFixed(1)} KB` : `${(size / 1024 ** 2).toFixed(1)} MB`;
}

export function duration(ms) {
  return ms < 1000 ? `${ms} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export function clock(text) {
  return new Date(text).toLocaleTimeString(undefined, { hour12: false });
}

export function when(text) {
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  return h("time", { dateTime: text, title: date.toLocaleString() }, today ? clock(text) : date.toLocaleString());
}

export function usageText(usage) {
  if (!usage) return "";
  const parts = [`${count(usage.input)} in`, `${count(usage.output)} out`];
  if (usage.cacheRead) parts.push(`${count(usage.cacheRead)} cached`);
  if (usage.cacheWrite) parts.push(`${count(usage.cacheWrite)} to cache`);
  const total = usage.cost?.total;
  if (total) parts.push(`$${total < 0.01 ? total.toPrecision(2) : total.toFixed(4)}`);
  return parts.join(" · ");
}
