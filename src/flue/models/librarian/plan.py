"""Which tools to call next, out of those the request offers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flue.messages import Json, ToolSpec
from flue.models.librarian.evidence import CAT, Evidence
from flue.models.librarian.question import Keyword, Question, stem
from flue.models.librarian.ranking import files_to_read

BUILT_IN = frozenset({"read", "write", "edit", "bash", "grep", "glob", "task", "activate_skill"})
ENDINGS = frozenset({"finish", "give_up"})

_MAX_ROUNDS = 3
_VERBS = frozenset(("get", "find", "lookup", "list", "show", "fetch", "search", "check", "by", "for", "the"))

Call = tuple[str, Json]


def own_tools(specs: Iterable[ToolSpec]) -> frozenset[str]:
    """Return the names of the application's own tools."""
    return frozenset(spec.name for spec in specs) - BUILT_IN - ENDINGS


def next_calls(evidence: Evidence, specs: Mapping[str, ToolSpec]) -> list[Call]:
    """Return the tool calls of the next step; none when it is time to answer."""
    if evidence.rounds == 0:
        return _own_call(evidence.question, specs) or _first_search(evidence.question, specs)
    if evidence.answers or evidence.rounds >= _MAX_ROUNDS:
        return []
    return [_read(path, specs) for path in files_to_read(evidence)] if _can_read(specs) else []


def can_search(specs: Mapping[str, ToolSpec]) -> bool:
    """Say whether the request offers anything to look at a workspace with."""
    return bool(specs.keys() & {"grep", "glob", "bash", "read"})


def _can_read(specs: Mapping[str, ToolSpec]) -> bool:
    return "read" in specs or "bash" in specs


def _first_search(question: Question, specs: Mapping[str, ToolSpec]) -> list[Call]:
    calls = [_read(path, specs) for path in question.paths] if _can_read(specs) else []
    if "glob" in specs:
        calls += [("glob", {"pattern": "*.md"}), ("glob", {"pattern": "*.txt"})]
    if "grep" in specs:
        # Headings by themselves: of many hits a search shows the first only, in the order of the files' names.
        calls += [("grep", {"pattern": f"^#+ .*{keyword.pattern}"}) for keyword in question.keywords]
        calls += [("grep", {"pattern": keyword.pattern}) for keyword in question.keywords]
    elif "bash" in specs and question.keywords:
        calls.append(("bash", {"command": _shell_search(question.keywords)}))
    return calls


def _shell_search(keywords: Iterable[Keyword]) -> str:
    patterns = " ".join(f"-e '{keyword.pattern}'" for keyword in keywords)
    return f"grep -rn {patterns} ."


def _read(path: str, specs: Mapping[str, ToolSpec]) -> Call:
    if "read" in specs:
        return "read", {"path": path}
    quoted = path.replace("'", "'\\''")
    return "bash", {"command": f"{CAT}'{quoted}'"}


def _own_call(question: Question, specs: Mapping[str, ToolSpec]) -> list[Call]:
    """Call an application's tool when the question has the words of its name, and values for its arguments."""
    asked = {stem(word) for word in re.findall(r"\w+", question.text)}
    for name in sorted(own_tools(specs.values())):
        own_name = re.sub(r"^mcp__.+?__", "", name.lower())
        words = {stem(word) for word in re.split(r"[_\W]+", own_name) if word and word not in _VERBS}
        if words and words <= asked:
            arguments = _arguments(question, specs[name].parameters, words)
            if arguments is not None:
                return [(name, arguments)]
    return []


def _arguments(question: Question, schema: Mapping[str, Any], name_words: set[str]) -> Json | None:
    filled: Json = {}
    for field in schema.get("required", ()):
        value = _argument(question, schema.get("properties", {}).get(field, {}), name_words)
        if value is None:
            return None
        filled[field] = value
    return filled


def _argument(question: Question, schema: Mapping[str, Any], name_words: set[str]) -> Any:
    text = question.text
    if "enum" in schema:
        return next((value for value in schema["enum"] if str(value).lower() in text.lower()), None)
    match schema.get("type", "string"):
        case "integer":
            number = re.search(r"-?\d+", text)
            return int(number.group()) if number else None
        case "number":
            number = re.search(r"-?\d+(?:\.\d+)?", text)
            return float(number.group()) if number else None
        case "string":
            return _text_argument(question, name_words)
        case _:
            return None


def _text_argument(question: Question, name_words: set[str]) -> str | None:
    """Return what stands in quotes or after a colon, else a number or code, else the words that are left."""
    if question.subject != question.text:
        return question.subject
    if identifier := re.search(r"\b(?=[\w-]*\d)[\w-]{2,}\b", question.text):
        return identifier.group()
    rest = [keyword.word for keyword in question.keywords if keyword.stem not in name_words]
    return " ".join(rest) or None
