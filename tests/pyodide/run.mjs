// Runs a Python program under Pyodide with the package and its wheels mounted, and prints what its `main()` returns.
//
//   node run.mjs INSTALLED SOURCE PROGRAM [ARGUMENT …]
//
// INSTALLED holds node_modules/ and wheels/ (see scripts/install-pyodide), SOURCE the folder of the package `flue`.
// The arguments are handed to `main()`.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [installed, source, program] = process.argv.slice(2, 5).map((path) => resolve(path));
const { loadPyodide } = await import(pathToFileURL(join(installed, "node_modules/pyodide/pyodide.mjs")).href);

try {
  const pyodide = await loadPyodide({ stdout: (line) => console.error(line) });
  pyodide.mountNodeFS("/packages", join(installed, "wheels"));
  pyodide.mountNodeFS("/source", source);
  pyodide.runPython("import sys; sys.dont_write_bytecode = True; sys.path[:0] = ['/source', '/packages']");
  pyodide.runPython(readFileSync(program, "utf8"), { filename: program });
  const main = pyodide.globals.get("main");
  console.log(await main(...process.argv.slice(5)));
  process.exit(0); // not when the last idle connection of `fetch` has been closed
} catch (error) {
  // Left to Node, it would be printed with the megabyte-long line of Pyodide that it passed through.
  console.error(error.message);
  process.exit(1);
}
