// A form made of a JSON Schema, with the JSON itself beside it. What has no form of its own (unions, free objects,
// schemas that contain themselves) is a piece of JSON.

import { add, button, complain, field, fill, h, uniqueId } from "./dom.js";

const DEEPEST = 6;

/** Return {element, read() -> {value, ok}, complain(issues)}; without a schema there is the JSON editor alone. */
export function buildForm(schema) {
  const editor = jsonEditor("Payload (JSON)", schema ? undefined : {}, 8);
  if (!schema) return { ...editor, read: () => result(editor), complain: () => {} };
  const form = part(schema, { root: schema, depth: 0, label: "", required: true });
  let asJson = false;
  const body = h("div", {}, form.element);
  const toggle = button("Edit as JSON", () => {
    const current = (asJson ? editor : form).read();
    if (asJson) {
      if (!current.ok || !form.write(current.value)) {
        complain(editor.control, current.ok ? "The form has no place for this; run it as JSON." : editor.problem());
        return;
      }
    } else {
      editor.write(current.value ?? {});
    }
    asJson = !asJson;
    fill(toggle, asJson ? "Edit as form" : "Edit as JSON");
    fill(body, (asJson ? editor : form).element);
  }, { class: "small" });
  return {
    element: h("fieldset", { class: "payload" }, h("legend", {}, "Payload "), h("p", { class: "actions" }, toggle), body),
    read: () => result(asJson ? editor : form),
    complain: (issues) => {
      for (const issue of issues) form.complain(issue.path, issue.message);
    },
  };
}

function result(source) {
  const { value, ok } = source.read();
  return { value: value === undefined ? {} : value, ok };
}

function resolve(schema, root) {
  let found = schema === true || schema === undefined ? {} : schema;
  for (let step = 0; found.$ref && step < 20; step += 1) {
    const { $ref, ...beside } = found;
    const target = $ref.replace(/^#\//, "").split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    found = { ...target, ...beside };
  }
  if (found.allOf?.length === 1) {
    const { allOf, ...beside } = found;
    found = { ...resolve(allOf[0], root), ...beside };
  }
  const choices = found.anyOf ?? found.oneOf;
  const real = choices?.filter((choice) => choice.type !== "null");
  if (real?.length === 1 && choices.length === 2) {
    const { anyOf, oneOf, ...beside } = found;
    found = { ...resolve(real[0], root), ...beside, nullable: true };
  }
  return found;
}

/** One value of the form: {element, read() -> {value?, ok}, write(value) -> whether it fits, complain(path, message)}. */
function part(given, context) {
  const schema = resolve(given, context.root);
  const inner = { ...context, depth: context.depth + 1 };
  if (schema.nullable && context.required) return orNull(schema, context);
  if (context.depth < DEEPEST) {
    if ("const" in schema) return fixed(schema, context);
    if (Array.isArray(schema.enum)) return choice(schema, context);
    if (schema.type === "string") return text(schema, context);
    if (schema.type === "integer" || schema.type === "number") return number(schema, context);
    if (schema.type === "boolean") return yesNo(schema, context);
    if (schema.type === "object" && schema.properties) return object(schema, inner);
    if (schema.type === "array" && schema.items && !schema.prefixItems) return list(schema, inner);
  }
  return free(schema, context);
}

/** What must be there and may be null: nothing entered means null. */
function orNull(schema, context) {
  const item = part({ ...schema, nullable: false }, { ...context, required: false });
  const read = () => {
    const { value, ok } = item.read();
    return { value: value === undefined ? null : value, ok };
  };
  return { ...item, read };
}

function title(schema, { label, required }) {
  return [label || schema.title || "Value", required ? h("span", { class: "required", title: "needed" }, " *") : ""];
}

function single(schema, context, control, { parse, show = (value) => String(value ?? ""), inline = false }) {
  const element = field(title(schema, context), control, { hint: schema.description, inline });
  if (context.required) control.setAttribute("aria-required", "true");
  if (schema.default !== undefined && schema.default !== null) show(schema.default, control);
  return {
    element,
    control,
    read: () => {
      const { value, problem = "" } = parse();
      complain(control, problem);
      return { value, ok: !problem };
    },
    write: (value) => {
      show(value, control);
      return true;
    },
    complain: (_, message) => complain(control, message),
  };
}

const INPUT_TYPES = { date: "date", email: "email", uri: "url", password: "password", time: "time" };

function text(schema, context) {
  const special = INPUT_TYPES[schema.format];
  const control = special ? h("input", { type: special, autocomplete: "off" }) : h("textarea", { rows: 1, spellcheck: false });
  const parse = () => {
    const value = control.value;
    if (value === "") return context.required ? { problem: "Fill this in." } : { value: undefined };
    if (schema.minLength && value.length < schema.minLength) return { problem: `At least ${schema.minLength} characters.` };
    if (schema.maxLength !== undefined && value.length > schema.maxLength) return { problem: `At most ${schema.maxLength} characters.` };
    return { value };
  };
  return single(schema, context, control, { parse, show: (value) => (control.value = String(value ?? "")) });
}

function number(schema, context) {
  const control = h("input", { inputMode: "decimal", autocomplete: "off" });
  const parse = () => {
    const written = control.value.trim();
    if (written === "") return context.required ? { problem: "Fill this in." } : { value: undefined };
    const value = Number(written);
    if (!Number.isFinite(value)) return { problem: "This is not a number." };
    if (schema.type === "integer" && !Number.isInteger(value)) return { problem: "A whole number, please." };
    if (value < (schema.minimum ?? -Infinity)) return { problem: `At least ${schema.minimum}.` };
    if (value > (schema.maximum ?? Infinity)) return { problem: `At most ${schema.maximum}.` };
    if (value <= (schema.exclusiveMinimum ?? -Infinity)) return { problem: `More than ${schema.exclusiveMinimum}.` };
    if (value >= (schema.exclusiveMaximum ?? Infinity)) return { problem: `Less than ${schema.exclusiveMaximum}.` };
    return { value };
  };
  return single(schema, context, control, { parse, show: (value) => (control.value = String(value ?? "")) });
}

function yesNo(schema, context) {
  const control = h("input", { type: "checkbox" });
  const known = context.required || schema.default !== undefined;
  const parse = () => ({ value: control.checked || known ? control.checked : undefined });
  return single(schema, { ...context, required: false }, control, { parse, show: (value) => (control.checked = value === true), inline: true });
}

function choice(schema, context) {
  const options = schema.enum;
  const control = h("select", {}, h("option", { value: "" }, context.required ? "Choose…" : "(not given)"),
    options.map((option, index) => h("option", { value: String(index) }, typeof option === "string" ? option : JSON.stringify(option))));
  const parse = () => {
    if (control.value !== "") return { value: options[Number(control.value)] };
    return context.required ? { problem: "Choose one." } : { value: undefined };
  };
  const show = (value) => {
    const index = options.findIndex((option) => JSON.stringify(option) === JSON.stringify(value));
    control.value = index < 0 ? "" : String(index);
  };
  return single(schema, context, control, { parse, show });
}

function fixed(schema, context) {
  const control = h("input", { readOnly: true, value: JSON.stringify(schema.const) });
  return single(schema, { ...context, required: false }, control, { parse: () => ({ value: schema.const }), show: () => {} });
}

function free(schema, context) {
  const editor = jsonEditor(title(schema, context), schema.default ?? undefined, 3, schema.description);
  return {
    ...editor,
    read: () => {
      const found = editor.read();
      if (found.ok && found.value === undefined && context.required) {
        complain(editor.control, "Fill this in.");
        return { ok: false };
      }
      return found;
    },
    complain: (_, message) => complain(editor.control, message),
  };
}

function jsonEditor(label, value, rows, hint) {
  const control = h("textarea", { rows, class: "code", spellcheck: false, value: value === undefined ? "" : JSON.stringify(value, null, 2) });
  const parse = () => {
    if (control.value.trim() === "") return { value: undefined, problem: "" };
    try {
      return { value: JSON.parse(control.value), problem: "" };
    } catch (error) {
      return { value: undefined, problem: `Not JSON: ${error.message}` };
    }
  };
  control.addEventListener("input", () => complain(control, parse().problem));
  return {
    element: field(label, control, { hint }),
    control,
    problem: () => parse().problem,
    read: () => {
      const { value, problem } = parse();
      complain(control, problem);
      return { value, ok: !problem };
    },
    write: (newer) => {
      control.value = newer === undefined ? "" : JSON.stringify(newer, null, 2);
      complain(control, "");
      return true;
    },
  };
}

function group(schema, context, body) {
  const optional = !context.required && context.depth > 1;
  const given = h("input", { type: "checkbox", id: uniqueId("given"), checked: !optional || (schema.default ?? null) !== null });
  const update = () => (body.hidden = !given.checked);
  given.addEventListener("change", update);
  update();
  if (context.depth <= 1) return { element: body, given };
  const legend = optional ? [given, " ", h("label", { for: given.id }, title(schema, context))] : title(schema, context);
  const hint = schema.description ? h("p", { class: "hint" }, schema.description) : null;
  return { element: h("fieldset", {}, h("legend", {}, legend), hint, body), given, update };
}

function object(schema, context) {
  const required = new Set(schema.required ?? []);
  const parts = new Map(Object.entries(schema.properties).map(([name, property]) => [
    name, part(property, { ...context, label: name, required: required.has(name) }),
  ]));
  const { element, given, update } = group(schema, context, h("div", {}, [...parts.values()].map((item) => item.element)));
  const write = (value) => {
    if (value === null || value === undefined || typeof value !== "object" || Array.isArray(value)) return value === undefined;
    if (Object.keys(value).some((name) => !parts.has(name))) return false;
    given.checked = true;
    update?.();
    return [...parts].every(([name, item]) => !(name in value) || item.write(value[name]));
  };
  if (schema.default) write(schema.default);
  return {
    element,
    read: () => {
      if (!given.checked) return { value: undefined, ok: true };
      const read = [...parts].map(([name, item]) => [name, item.read()]);
      const value = Object.fromEntries(read.filter(([, found]) => found.value !== undefined).map(([name, found]) => [name, found.value]));
      return { value, ok: read.every(([, found]) => found.ok) };
    },
    write,
    complain: ([name, ...rest], message) => parts.get(name)?.complain(rest, message),
  };
}

function list(schema, context) {
  let items = [];
  const rows = h("div", { class: "items" });
  const append = (value) => {
    const item = part(schema.items, { ...context, label: `${context.label || "item"} ${items.length + 1}`, required: true });
    const row = h("div", { class: "item" }, item.element, button("Remove", () => {
      items = items.filter((other) => other !== item);
      row.remove();
    }, { class: "small" }));
    items.push(item);
    add(rows, [row]);
    return value === undefined || item.write(value);
  };
  const more = button("Add", () => append(), { class: "small" });
  const { element, given, update } = group(schema, context, h("div", {}, rows, more));
  const write = (values) => {
    if (!Array.isArray(values)) return values === undefined;
    items = [];
    fill(rows);
    given.checked = true;
    update?.();
    return values.every((value) => append(value));
  };
  if (Array.isArray(schema.default)) write(schema.default);
  return {
    element,
    read: () => {
      if (!given.checked) return { value: undefined, ok: true };
      const read = items.map((item) => item.read());
      return { value: read.map((found) => found.value), ok: read.every((found) => found.ok) };
    },
    write,
    complain: ([index, ...rest], message) => items[index]?.complain(rest, message),
  };
}
