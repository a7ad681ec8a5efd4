// The files of the sandbox that a session's prompt works in, while there is one.

import { get } from "./api.js";
import { button, bytes, errorText, fill, h, longText } from "./dom.js";

const REST_MS = 400;

export class FilesPanel {
  constructor(address) {
    this.address = address;
    this.path = ".";
    this.body = h("div", { class: "inside" });
    this.element = h("details", { class: "files", ontoggle: () => this.element.open && this.load() }, h("summary", {}, "Files"), this.body);
  }

  close() {
    clearTimeout(this.timer);
  }

  /** Look again in a moment, if somebody looks: a tool may have written something. */
  changed() {
    if (!this.element.open) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), REST_MS);
  }

  async open(place) {
    this.path = place;
    await this.load();
  }

  async load() {
    try {
      const found = await get(this.address, { path: this.path });
      fill(this.body, found.alive ? [this.trail(found), found.entries ? this.directory(found) : this.file(found)] : NONE());
    } catch (error) {
      fill(this.body, errorText(error), h("p", { class: "actions" }, button("Working directory", () => this.open(".")), this.again()));
    }
  }

  again() {
    return button("Look again", () => this.load(), { class: "small" });
  }

  trail(found) {
    const names = found.path.split("/").filter(Boolean);
    const place = (index) => `/${names.slice(0, index).join("/")}`;
    return h("p", { class: "trail" }, button("/", () => this.open("/"), { class: "link", "aria-label": "root" }),
      names.map((name, index) => [button(name, () => this.open(place(index + 1)), { class: "link" }), index + 1 < names.length ? "/" : ""]),
      " ", this.again());
  }

  directory(found) {
    const below = (name) => (found.path === "/" ? `/${name}` : `${found.path}/${name}`);
    const row = (entry) => h("li", {}, button(entry.kind === "directory" ? `${entry.name}/` : entry.name, () => this.open(below(entry.name)), { class: "link" }),
      entry.kind === "link" ? h("span", { class: "hint" }, "link") : entry.kind === "file" ? h("span", { class: "hint" }, bytes(entry.size)) : null);
    return [found.entries.length ? h("ul", { class: "names" }, found.entries.map(row)) : h("p", { class: "hint" }, "Empty."),
      found.more && h("p", { class: "hint" }, "There are more names; only the first are shown.")];
  }

  file(found) {
    if (found.text === null) return h("p", { class: "hint" }, `${found.why} (${bytes(found.size)})`);
    return longText(found.text, { class: "code" });
  }
}

const NONE = () => h("p", { class: "hint" }, "There are no files to see now: the page looks into a sandbox while a prompt of this "
  + "session runs or waits. The files of a virtual sandbox end with the prompt; others are seen again during the next one.");
