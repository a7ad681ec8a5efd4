"""Reads the fenced blocks of a Markdown page and the directives before them.

A directive is an HTML comment on the lines before a block (blank lines between are fine):

    <!-- file: .flue/workflows/hello.py -->   write the block to this file of the page's sample project
    <!-- skip: needs a real key -->           do not run the block; the reason is required
    <!-- run: flue run hello -->              run the command; the block is what it prints (nothing: anything)
    <!-- run: python -->                      run the block, as every Python block is anyway
    <!-- output -->                           the block is what the Python block before printed
    <!-- reply: Bonjour [[then]] … -->        what the model answers, in the fake server's directives
    <!-- stdin: text -->                      the input of the command, `\\n` starts a new line; or: run: … < FILE

and `<!-- setup` … `-->` holds Python that readers do not see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

DIRECTIVES = {"file", "skip", "run", "output", "reply", "stdin"}
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)[^`]*$")
_DIRECTIVE = re.compile(r"^ *<!--\s*(?P<name>[a-z]+)(?::\s*(?P<value>.*?))?\s*-->\s*$")
_SETUP = re.compile(r"^<!-- setup\s*$")


class SnippetError(Exception):
    """A page is written wrongly."""


@dataclass
class Block:
    """A fenced block, or a hidden setup. `line` is that of its first line of text, from 1."""

    page: Path
    line: int
    language: str
    text: str
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return where the block stands."""
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order. Raises `SnippetError` for an open fence or a misplaced directive."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    pending: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            end = _end_of(lines, at, rf"^ *{fence['ticks']}`* *$", page, "this fence is never closed")
            text = "\n".join(_dedent(row, len(fence["indent"])) for row in lines[at + 1 : end])
            blocks.append(Block(page, at + 2, fence["language"], text + "\n", pending))
            pending, at = {}, end
        elif _SETUP.match(line):
            end = _end_of(lines, at, r"^-->\s*$", page, "this setup is never closed")
            blocks.append(Block(page, at + 2, "python", "\n".join(lines[at + 1 : end]) + "\n"))
            at = end
        elif (found := _DIRECTIVE.match(line)) and found["name"] in DIRECTIVES:
            _add(pending, found["name"], found["value"], f"{page}:{at + 1}")
        elif line.strip() and pending:
            raise SnippetError(f"{page}:{at + 1}: the directive {next(iter(pending))!r} stands before no block")
        at += 1
    if pending:
        raise SnippetError(f"{page}:{len(lines)}: the directive {next(iter(pending))!r} stands before no block")
    return blocks


def _add(pending: dict[str, str], name: str, value: str | None, place: str) -> None:
    if name in pending:
        raise SnippetError(f"{place}: a second {name!r} for one block")
    if not value and name != "output":
        raise SnippetError(f"{place}: {name!r} says nothing; write <!-- {name}: … -->")
    pending[name] = value or ""


def _end_of(lines: list[str], start: int, pattern: str, page: Path, problem: str) -> int:
    for at in range(start + 1, len(lines)):
        if re.match(pattern, lines[at]):
            return at
    raise SnippetError(f"{page}:{start + 1}: {problem}")


def _dedent(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line
