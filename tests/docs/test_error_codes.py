"""Every error code in the source has a heading in docs/troubleshooting.md, and the other way round."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
# The loader writes f"{noun}_not_found".
COMPOSED = {"workflow_not_found", "agent_not_found"}
CODE = re.compile(r"[a-z]+(?:_[a-z]+)*\Z")


def texts(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and CODE.match(part.value):
            yield part.value


def codes_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value) if not isinstance(value, ast.JoinedStr):
                yield from texts(value)
            case ast.Assign(targets=[ast.Name(id="default_code")], value=ast.Constant() as value):
                yield from texts(value)
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.IfExp(body=ast.Constant() as one, orelse=other)):
                yield from (*texts(one), *texts(other))
            case ast.AnnAssign(target=ast.Name(id="default_code"), value=ast.Constant() as value):
                yield from texts(value)
            case ast.Tuple(elts=[ast.Constant(value=str(code)), *_]) if code.startswith("store_"):
                yield code


def codes_in_source() -> set[str]:
    # The fake provider's codes are those of the providers it imitates.
    files = [path for path in (ROOT / "src" / "flue").rglob("*.py") if "testing" not in path.parts]
    found = {code for path in files for code in codes_in(ast.parse(path.read_text(encoding="utf-8")))}
    return found | COMPOSED


def test_every_code_is_in_the_troubleshooting_page() -> None:
    documented = set(re.findall(r"^### `(\w+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert codes_in_source() - documented == set(), "codes without a heading"
    assert documented - codes_in_source() == set(), "headings without a code"


def test_codes_are_found_in_every_form_they_are_written_in() -> None:
    source = """
class E:
    default_code = "one"
raise E("x", code="two")
raise E("x", code="three" if a else "four")
code = "five" if a else "six"
MEANINGS = {1: ("store_seven", "what", "hint")}
"""
    expected = {"one", "two", "three", "four", "five", "six", "store_seven"}
    assert set(codes_in(ast.parse(source))) == expected
