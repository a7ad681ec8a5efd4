// The frame: what there is, where one is, and how the server is.

import { get, path } from "./api.js";
import { agentView, homeView, workflowView } from "./overview.js";
import { chatView } from "./chat.js";
import { runsView, runView } from "./runs.js";
import { fill, h } from "./dom.js";

const LOOK_MS = 1500;

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const banner = document.getElementById("banner");
const menu = document.getElementById("menu");

let project = { name: "", agents: [], workflows: [] };
let version = null;
let view = null;

const ROUTES = [
  [/^\/$/, () => homeView(main, project)],
  [/^\/agents\/([^/]+)$/, (name) => agentView(main, find("agents", name))],
  [/^\/agents\/([^/]+)\/([^/]+)\/([^/]+)$/, (name, id, session) => chatView(main, find("agents", name), id, session)],
  [/^\/workflows\/([^/]+)$/, (name) => workflowView(main, find("workflows", name))],
  [/^\/runs$/, () => runsView(main, project)],
  [/^\/runs\/([^/]+)$/, (id) => runView(main, id)],
];

function find(kind, name) {
  return project[kind].find((item) => item.name === name) ?? null;
}

function show({ focus = true } = {}) {
  view?.close?.();
  view = null;
  const place = location.hash.replace(/^#/, "").split("?")[0] || "/";
  for (const [pattern, open] of ROUTES) {
    const match = pattern.exec(place);
    if (match) {
      view = open(...match.slice(1).map(decodeURIComponent)) ?? null;
      break;
    }
  }
  if (view === null) fill(main, h("h1", {}, "Not here"), h("p", {}, "The project has nothing of that name (any more)."));
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · Flue`;
  for (const link of document.querySelectorAll("nav a, header a")) {
    const target = link.hash.replace(/^#/, "");
    if (target !== "/" && (place === target || place.startsWith(`${target}/`))) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  closeMenu();
  if (focus) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    view?.focus?.();
  }
}

function showNav() {
  const list = (kind, items) => [
    h("h2", {}, kind === "agents" ? "Agents" : "Workflows"),
    items.length ? h("ul", {}, items.map((item) => h("li", {}, h("a", { href: `#/${kind}/${encodeURIComponent(item.name)}` }, item.name))))
      : h("p", { class: "hint" }, "none"),
  ];
  fill(nav, list("agents", project.agents), list("workflows", project.workflows));
  fill(document.getElementById("project"), project.name || "Flue");
}

function showBanner(kind, text, ...children) {
  const key = `${kind}: ${text}`;
  if (banner.dataset.key === key) return; // told once is enough
  banner.dataset.key = key;
  banner.hidden = !text;
  banner.className = kind;
  fill(banner, children.length ? children : text);
}

async function look() {
  let status;
  try {
    status = await get(path("status"));
  } catch (error) {
    showBanner("offline", `${error.message} ${error.details ?? ""}`);
    return;
  }
  if (status.problem) {
    const goesOn = status.version ? "The code before it goes on serving." : "Nothing is served yet.";
    showBanner("problem", `${goesOn} ${status.problem}`,
      h("strong", {}, "The newest code cannot be loaded. "), goesOn, h("pre", {}, status.problem));
  } else {
    showBanner("", "");
  }
  if (status.version && status.version !== version) {
    const first = version === null;
    project = await get(path("project"));
    version = status.version;
    showNav();
    // A list is shown anew; a conversation or a run is not disturbed, it goes on below the new code.
    if (first || !view?.renew) show({ focus: first });
    else view.renew(project);
  }
}

function closeMenu() {
  menu.setAttribute("aria-expanded", "false");
  nav.classList.remove("open");
}

menu.addEventListener("click", () => {
  const open = menu.getAttribute("aria-expanded") !== "true";
  menu.setAttribute("aria-expanded", String(open));
  nav.classList.toggle("open", open);
});
window.addEventListener("hashchange", () => show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says what is shown
  main.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && nav.classList.contains("open")) {
    closeMenu();
    menu.focus();
  }
});

async function watch() {
  for (;;) {
    if (document.visibilityState === "visible") await look().catch((error) => showBanner("offline", error.message));
    await new Promise((resolve) => {
      setTimeout(resolve, LOOK_MS);
    });
  }
}

fill(main, h("p", { class: "hint" }, "Loading…"));
watch();
