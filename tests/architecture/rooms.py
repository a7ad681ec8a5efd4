"""The rooms of `src/flue` as its docstring lists them, its modules, and what they import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "flue"
CORE = ("errors", "messages", "ports", "events", "registrations", "sse", "definitions", "harness", "durable", "engine")


@dataclass(frozen=True)
class Module:
    """A module of the package: its dotted name, its file and its text."""

    name: str
    path: Path
    source: str

    @property
    def room(self) -> str:
        """Return the part after `flue.`; empty for the package itself."""
        return room_of(self.name)

    @property
    def package(self) -> str:
        """Return the package that its relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    def tree(self) -> ast.Module:
        """Return the parsed module. Nobody keeps it: the garbage collector would look at all of it for ever after."""
        return ast.parse(self.source, str(self.path))


@dataclass(frozen=True)
class Import:
    """One imported name: `module` is absolute and dotted, `name` what is taken from it, empty for the whole."""

    module: str
    name: str
    line: int


def room_of(module: str) -> str:
    """Return the room that a dotted module name lies in; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def floors() -> list[tuple[str, ...]]:
    """Return the lines of the list in `flue.__doc__`, innermost first; each holds one room or several side by side."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^    (\w+(?:, \w+)*)(?:$| {2,})", docstring, re.MULTILINE)
    return [tuple(line.split(", ")) for line in listed]


@cache
def modules() -> list[Module]:
    """Return every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, path.read_text(encoding="utf-8")))
    return found


def core_modules() -> list[Module]:
    """Return the modules that must run anywhere, a Worker included."""
    return [module for module in modules() if module.room in CORE]


@cache
def imports(module: Module) -> list[Import]:
    """Return all imports of a module, those inside functions and for type checkers included."""
    found: list[Import] = []
    for node in _statements(module.tree()):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.package.split(".")[: 1 - node.level or None] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            found += [Import(target, alias.name, node.lineno) for alias in node.names]
    return found


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements, and what holds some; expressions, which are many more, hold no imports."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, name, ()):
            yield node
            yield from _statements(node)
