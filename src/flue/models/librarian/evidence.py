"""What the tools have given so far, read back from the transcript."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from flue.messages import AssistantMessage, Message, TextContent, ToolCall, ToolResultMessage, UserMessage
from flue.models.librarian.question import Question, understand, without_result_note

_HIT = re.compile(r"^(?!\[)([^:\n]+):(\d+):(.*)$")
_PATH_LINE = re.compile(r"^[^\s:][^:\n]*\.\w{1,8}$")
_NOTE = re.compile(r"\n*\[(?:Showing|Line|Bytes) [^\]]*\]\s*$")
_IGNORED = re.compile(r"(?:^|/)(?:\.git|\.venv|node_modules|__pycache__)/")

CAT = "cat "
"""How the rules read a file when all they have is a shell."""


@dataclass(frozen=True)
class Hit:
    """A line that grep found."""

    path: str
    line: int
    text: str


@dataclass
class Evidence:
    """What happened since the last question.

    `texts` maps a file to its text from line 1 (or `first_line`); `answers` holds the results of the application's
    own tools; `failures` the error texts of results; `finish_error` is set when `finish` refused the result.
    """

    question: Question
    rounds: int = 0
    files: list[str] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    finish_error: str = ""
    said_before: list[str] = field(default_factory=list)


def gather(messages: Sequence[Message], own_tools: frozenset[str]) -> Evidence:
    """Read the transcript: the last question, and what was called and answered since.

    `own_tools` are the names of the application's own tools, whose results are quoted as they are.
    """
    start = max((index for index, message in enumerate(messages) if _is_question(message)), default=-1)
    asked = _said(messages[start]) if start >= 0 else ""
    evidence = Evidence(understand(without_result_note(asked)))
    evidence.said_before = [
        without_result_note(_said(message))
        for message, following in pairwise(messages[: start + 1])
        if isinstance(message, UserMessage) and not _is_shell(following)
    ]
    calls: dict[str, ToolCall] = {}
    for message in messages[start + 1 :]:
        if isinstance(message, AssistantMessage):
            evidence.rounds += 1
            calls.update({call.id: call for call in message.tool_calls})
        elif isinstance(message, ToolResultMessage) and message.tool_call_id in calls:
            _take(evidence, calls[message.tool_call_id], message, own_tools)
    return evidence


def _is_question(message: Message) -> bool:
    """Tell a question from what the harness says by itself: a reminder to call `finish`, or notes alone."""
    if not isinstance(message, UserMessage):
        return False
    text = _said(message)
    return bool(text) and not ("finish" in text and "give_up" in text and without_result_note(text) == text)


def _is_shell(message: Message) -> bool:
    """Say whether this is the recorded command of `session.shell`, which the application ran, not the user's words."""
    return isinstance(message, AssistantMessage) and message.api == "flue-shell"


def _said(message: Message) -> str:
    """Return the user's own words: the harness's notes, of a new day or a new sandbox, are blocks in brackets."""
    blocks = [block.text for block in message.content if isinstance(block, TextContent)]
    return "\n".join(text for text in blocks if not (text.startswith("[") and text.endswith("]")))


def _text(message: Message) -> str:
    return "\n".join(block.text for block in message.content if isinstance(block, TextContent))


def _take(evidence: Evidence, call: ToolCall, result: ToolResultMessage, own_tools: frozenset[str]) -> None:
    text = _text(result)
    evidence.called.add(call.name)
    if call.name == "finish":
        evidence.finish_error = text
    elif call.name in own_tools:
        evidence.answers.append((call.name, text))
    elif result.is_error:
        evidence.failures.append(text)
    elif call.name == "read":
        evidence.texts[_plain_path(str(call.arguments.get("path", "")))] = _NOTE.sub("", text)
    elif call.name == "bash" and str(call.arguments.get("command", "")).startswith(CAT):
        path = str(call.arguments["command"]).removeprefix(CAT).strip("'")
        evidence.texts[_plain_path(path)] = text
    else:
        _take_search(evidence, text)


def _take_search(evidence: Evidence, text: str) -> None:
    for line in text.splitlines():
        if hit := _HIT.match(line):
            path = _plain_path(hit.group(1))
            if not _IGNORED.search(path):
                evidence.hits.append(Hit(path, int(hit.group(2)), hit.group(3)))
        elif _PATH_LINE.match(line) and not _IGNORED.search(line):
            evidence.files.append(_plain_path(line))


def _plain_path(path: str) -> str:
    return path.removeprefix("./")
