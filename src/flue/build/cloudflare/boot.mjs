// Starts a built Worker's Python as the platform does: its modules lie below /session/metadata, packages in a folder of
// their own there, and the main module is imported. What the platform offers to Python comes from the caller.
import { readFileSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const PLACE = "/session/metadata";
const SEARCH = `
import site, sys
place = next(index for index, path in enumerate(sys.path) if "site-packages" in path)
sys.path[place:place] = ["${PLACE}", "${PLACE}/python_modules"]
sys.dont_write_bytecode = True
site.addsitedir("${PLACE}/python_modules")
`;

// `folder` holds wrangler.json, the module that it names, and python_modules. Returns Pyodide, the main module, and what
// that took: seconds, and bytes of memory before and after its import.
export async function boot(pyodideFolder, folder, { helper, flags, print = console.error }) {
  const { loadPyodide } = await import(pathToFileURL(join(pyodideFolder, "pyodide.mjs")).href);
  const began = performance.now();
  const pyodide = await loadPyodide({
    env: { HOME: "/session", PYTHONHASHSEED: "111" },
    stdout: print,
    stderr: print,
  });
  const loaded = performance.now();
  const config = JSON.parse(readFileSync(join(folder, "wrangler.json"), "utf8"));
  const [, source, name] = /^(.*)\/([^/]+)\.py$/.exec(config.main);
  pyodide.FS.mkdirTree(`${PLACE}/python_modules`);
  for (const file of readdirSync(join(folder, source))) {
    pyodide.FS.writeFile(`${PLACE}/${file}`, readFileSync(join(folder, source, file)));
  }
  pyodide.mountNodeFS(`${PLACE}/python_modules`, realpathSync(join(folder, "python_modules")));
  pyodide.registerJsModule("_pyodide_entrypoint_helper", helper);
  pyodide.registerJsModule("_cloudflare_compat_flags", flags);
  pyodide.runPython(SEARCH);
  const empty = pyodide._module.HEAPU8.length;
  const main = pyodide.pyimport(name);
  return {
    pyodide,
    main,
    config,
    seconds: { python: (loaded - began) / 1000, modules: (performance.now() - loaded) / 1000 },
    heap: { empty, imported: pyodide._module.HEAPU8.length },
  };
}
