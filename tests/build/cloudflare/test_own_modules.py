"""A Worker imports nothing of Flue that its build leaves out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flue import _EXPORTS
from flue.build.cloudflare.own_modules import LEFT_OUT, LIBRARIAN, own_modules
from tests.architecture.rooms import Module, modules

BY_NAME = {module.name: module for module in modules()}
# Names of `flue` for programs that wait in a thread of their own; a Worker has none.
BLOCKING = "sync."


def test_what_is_left_out_is_there() -> None:
    missing = [name for name in (*LEFT_OUT, LIBRARIAN) if f"flue.{name}" not in BY_NAME]
    assert not missing, f"flue/build/cloudflare/own_modules.py leaves out what does not exist: {missing}"


def test_the_way_to_a_workers_first_answer_imports_nothing_that_is_left_out() -> None:
    shipped = shipped_modules()
    roots = [name for name in BY_NAME if name.startswith("flue.cloudflare")]
    roots += [f"flue.{name}" for name in _EXPORTS if not name.startswith(BLOCKING)]
    roots += [
        "flue.engine.engine",
        "flue.project.loader",
        "flue.sandboxes.virtual_sandbox",
        "flue.sandboxes.bashkit_engine",
        "flue.server.app",
    ]
    missing = {
        f"{importer} imports {imported}"
        for importer in reached(roots)
        for imported in imports_at_once(BY_NAME[importer])
        if imported in BY_NAME and imported not in shipped
    }
    assert not missing, f"put it into a function, or take it off the list in own_modules.py: {sorted(missing)}"


def test_the_offline_model_goes_with_it_where_a_project_uses_it() -> None:
    assert not [name for name in own_modules(librarian=False) if "librarian" in name]
    assert [name for name in own_modules(librarian=True) if "librarian" in name]


def shipped_modules() -> set[str]:
    """Return the names of the modules that a Worker gets."""
    paths = [name.removesuffix(".py") for name in own_modules(librarian=False) if name.endswith(".py")]
    return {name.removesuffix("/__init__").replace("/", ".") for name in paths}


def reached(roots: list[str]) -> set[str]:
    """Return these modules and all that are imported with them."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen and name in BY_NAME:
            seen.add(name)
            waiting += [*imports_at_once(BY_NAME[name]), name.rpartition(".")[0]]
    return seen


def imports_at_once(module: Module) -> Iterator[str]:
    """Yield what a module imports when it is imported itself, not later in a function, nor for type checkers."""
    statements: list[ast.stmt] = list(module.tree().body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "Flue imports by whole names"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            statements += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
