// Imports a built Worker's main module and prints what that took, as JSON.
//
//   node measure.mjs PYODIDE FOLDER
import { boot } from "./boot.mjs";

// Nothing of it is called while modules are imported.
const helper = {
  cloudflareWorkersModule: { env: {}, waitUntil() {} },
  cloudflareSocketsModule: {},
  doAnImport: () => Promise.reject(new Error("not while modules are imported")),
  patchWaitUntil() {},
  *patch_env_helper() {},
};

try {
  const { pyodide, seconds, heap } = await boot(process.argv[2], process.argv[3], { helper, flags: {} });
  const modules = pyodide.runPython("import sys; len(sys.modules)");
  console.log(JSON.stringify({ seconds: seconds.modules, heap: heap.imported, modules }));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
