// Compiles every Python file below a folder with the Python of the Worker: `x.pyc` takes the place of `x.py`.
//
//   node compile.mjs PYODIDE FOLDER
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [pyodideFolder, folder] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(pyodideFolder, "pyodide.mjs")).href);

const program = `
import os, pathlib, py_compile, sys
failed = []
for path in sorted(pathlib.Path("/modules").rglob("*.py")):
    # Files say where they are in a Worker, not here. Never checked against a source: there is none.
    place = "/session/metadata/python_modules/" + path.relative_to("/modules").as_posix()
    try:
        py_compile.compile(
            str(path), str(path.with_suffix(".pyc")), place, doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except py_compile.PyCompileError as error:
        failed.append(f"{place}: {error.exc_value}")
    else:
        path.unlink()
"\\n".join(failed)
`;

try {
  const pyodide = await loadPyodide({ env: { PYTHONHASHSEED: "0", HOME: "/" } });
  pyodide.mountNodeFS("/modules", folder);
  console.log(pyodide.runPython(program));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
