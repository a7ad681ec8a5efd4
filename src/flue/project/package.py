"""Imports a project's modules as a private package, so that they and the installed packages never shadow each other.

Every load has a package name of its own, `_flue_project_<n>`, whose path is the source root. Inside its modules, an
absolute import of a name that the source root holds is redirected into the package: `from tools.weather import
forecast` finds `<source>/tools/weather.py`, also when some installed package is called `tools`. `sys.path` is not
touched, so nobody else sees the project's modules. The redirection is an `__import__` in the modules' `__builtins__`,
which is where CPython's import statement looks it up; `importlib.import_module` is not redirected.

The standard library and `flue` itself are never redirected: a project with a `queue.py` keeps the real `queue`, and
reaches its own file by a relative import.
"""

from __future__ import annotations

import builtins
import importlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PREFIX = "_flue_project_"
_numbers = itertools.count(1)


class PrivatePackage:
    """One load of the modules below a source root. They exist from `install()` until `remove()`."""

    def __init__(self, source_root: Path) -> None:
        self.name = f"{PREFIX}{next(_numbers)}"
        self.source_root = source_root
        self._known: dict[str, bool] = {}
        self._finder = _Finder(self.name, {**vars(builtins), "__import__": self._import})

    def install(self) -> None:
        """Make the package importable."""
        package = ModuleType(self.name)
        package.__path__ = [str(self.source_root)]
        package.__spec__ = ModuleSpec(self.name, None, is_package=True)
        sys.modules[self.name] = package
        sys.meta_path.insert(0, self._finder)

    def remove(self) -> None:
        """Forget the package and its modules. Code of theirs that still runs can no longer import from each other."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        within = f"{self.name}."
        for name in list(sys.modules):
            if name == self.name or name.startswith(within):
                del sys.modules[name]

    def load(self, dotted: str) -> ModuleType:
        """Import `agents.support` (say) from the source root. Raises whatever the module raises."""
        return importlib.import_module(f"{self.name}.{dotted}")

    def modules(self) -> Iterator[ModuleType]:
        """Yield the modules that are loaded so far."""
        within = f"{self.name}."
        return iter([module for name, module in list(sys.modules.items()) if name.startswith(within)])

    def holds(self, name: str) -> bool:
        """Say whether the source root has a module or package of this top-level name."""
        if name not in self._known:
            directory = self.source_root / name
            # Without __init__.py a folder is a package when there is Python in it; other folders hide nothing.
            package = (directory / "__init__.py").is_file() or next(directory.rglob("*.py"), None) is not None
            self._known[name] = package or (self.source_root / f"{name}.py").is_file()
        return self._known[name]

    def redirects(self, name: str) -> bool:
        """Say whether an absolute import of this top-level name finds the project's own module."""
        return name != "flue" and name not in sys.stdlib_module_names and self.holds(name)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self.redirects(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        # `import a.b` binds `a`: here that is the package's submodule, not the package.
        return module if fromlist else sys.modules[f"{self.name}.{top}"]


class _Finder(MetaPathFinder):
    """Finds the modules of one private package, and nothing else."""

    def __init__(self, package: str, module_builtins: dict[str, Any]) -> None:
        self._prefix = f"{package}."
        self._loader = partial(_Loader, module_builtins)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(self._prefix):
            return None
        for directory in path or ():
            # A new FileFinder each time: the old one's listing could miss a file written a moment ago.
            spec = FileFinder(directory, (self._loader, [".py"])).find_spec(fullname)  # type: ignore[arg-type]
            if spec is not None:
                return spec
        return None


class _Loader(SourceFileLoader):
    """Runs a module with the project's builtins, always from its source."""

    def __init__(self, module_builtins: dict[str, Any], fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._builtins = module_builtins

    def get_code(self, fullname: str) -> CodeType:
        # Cached bytecode is recognised by whole seconds and size, which misses a quick edit and reload.
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)
