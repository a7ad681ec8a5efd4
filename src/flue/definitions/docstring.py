"""Parameter descriptions from docstrings: Google, NumPy and Sphinx style.

Only what names a real parameter counts as a description; a docstring in any other style stays whole.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

_HEADINGS = r"(?:Args|Arguments|Parameters|Params|Other Parameters|Keyword Args|Keyword Arguments)"
_GOOGLE_HEADING = re.compile(_HEADINGS + r":\s*")
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY_HEADING = re.compile(_HEADINGS + r"\s*")
_NUMPY_RULE = re.compile(r"-{3,}\s*")
_NUMPY_ENTRY = re.compile(r"((?:\*{0,2}\w+)(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_SPHINX_ENTRY = re.compile(r":(param|parameter|arg|argument|key|keyword|type)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")


def split_docstring(docstring: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return the docstring without its parameter sections, and the descriptions of the parameters in `names`."""
    lines = inspect.cleandoc(docstring).splitlines()
    kept: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        end, entries = _section(lines, at, names)
        if entries is None:
            kept.append(lines[at])
            at += 1
            continue
        found.update({name: text for name, text in entries.items() if text})
        at = end
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), found


def _section(lines: list[str], at: int, names: Collection[str]) -> tuple[int, dict[str, str] | None]:
    """Read the parameter section that starts at a line: where it ends, and its entries (None: no such section)."""
    line = lines[at]
    if _GOOGLE_HEADING.fullmatch(line):
        end = _end_of_indented(lines, at + 1)
        entries = _google_entries(lines[at + 1 : end], names)
        return (end, entries) if entries else (at, None)
    if _NUMPY_HEADING.fullmatch(line) and at + 1 < len(lines) and _NUMPY_RULE.fullmatch(lines[at + 1]):
        end, entries = _numpy_entries(lines, at + 2, names)
        return (end, entries) if entries else (at, None)
    match = _SPHINX_ENTRY.fullmatch(line)
    if match and match[2] in names:
        end = _end_of_indented(lines, at + 1)
        text = _join([match[3], *lines[at + 1 : end]])
        return end, {match[2]: "" if match[1] == "type" else text}
    return at, None


def _end_of_indented(lines: list[str], at: int) -> int:
    """Return the index after the last indented line of the block that starts at `at`."""
    end = at
    for index in range(at, len(lines)):
        if lines[index].strip():
            if not lines[index][0].isspace():
                break
            end = index + 1
    return end


def _google_entries(block: list[str], names: Collection[str]) -> dict[str, str]:
    first = next((line for line in block if line.strip()), "")
    indent = len(first) - len(first.lstrip())
    parts: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in block:
        match = _GOOGLE_ENTRY.fullmatch(line[indent:]) if line[:indent].isspace() else None
        if match and match[1] in names:
            current = parts[match[1]] = [match[2]]
        elif current is not None:
            current.append(line)
    return {name: _join(texts) for name, texts in parts.items()}


def _numpy_entries(lines: list[str], at: int, names: Collection[str]) -> tuple[int, dict[str, str]]:
    entries: dict[str, str] = {}
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        match = _NUMPY_ENTRY.fullmatch(lines[at])
        entry_names = [name.strip(" *") for name in match[1].split(",")] if match else []
        if not entry_names or any(name not in names for name in entry_names):
            break
        end = _end_of_indented(lines, at + 1)
        text = _join(lines[at + 1 : end])
        entries.update(dict.fromkeys(entry_names, text))
        at = end
    return at, entries


def _join(lines: list[str]) -> str:
    return " ".join(part for line in lines if (part := line.strip()))
