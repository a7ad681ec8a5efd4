"""What a user's own `cloudflare.py` and `cloudflare.js` define, read from their text: neither is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_EXPORT = re.compile(
    r"(?<![\w$.])export\s+(?:"
    r"(?P<all>\*(?!\s*as\b))"
    r"|\*\s*as\s+(?P<space>[\w$]+)"
    r"|\{(?P<names>[^}]*)\}"
    r"|(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(?:class|function\s*\*?|const|let|var)\s+(?P<declared>[\w$]+)"
    r")"
)
# What may hold text that looks like code. Strings end with their line, so that a quote in a regular expression spoils
# no more than its own line.
_NOT_CODE = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*(?:`|\Z)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class OwnExports:
    """The names that a user's modules offer to the Worker.

    `python` are those of cloudflare.py; `open` says that a star import there may bring more. `javascript` are those of
    cloudflare.js, and `javascript_file` is where it lies, relative to the root; None when there is none.
    """

    python: frozenset[str] = frozenset()
    open: bool = False
    javascript: frozenset[str] = frozenset()
    javascript_file: str | None = None


def python_names(text: str) -> tuple[frozenset[str], bool]:
    """Return the names that a Python module binds at its top level, and whether a star import may bind others.

    Raises `SyntaxError`.
    """
    names = {name for statement in _statements(ast.parse(text).body) for name in _bound(statement)}
    return frozenset(names - {"*"}), "*" in names


def javascript_names(text: str) -> tuple[frozenset[str], bool]:
    """Return the names that a JavaScript or TypeScript module exports, and whether `export *` may export others.

    Types and the default export do not count.
    """
    names: set[str] = set()
    opened = False
    for match in _EXPORT.finditer(_NOT_CODE.sub(" ", text)):
        opened = opened or match["all"] is not None
        names.update(filter(None, [match["space"], match["declared"], *_listed(match["names"] or "")]))
    return frozenset(names - {"default"}), opened


def _listed(names: str) -> Iterator[str]:
    for item in names.split(","):
        words = item.split()
        if words and not (words[0] == "type" and len(words) in (2, 4)):
            yield words[-1]


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for field in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                for part in getattr(statement, field, []):
                    yield from _statements(part.body if isinstance(part, ast.ExceptHandler) else [part])


def _bound(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.split(".")[0] for alias in aliases)
        case ast.Assign(targets=targets):
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name
