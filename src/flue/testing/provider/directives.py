"""Directives: how the last user text steers the fake provider server when no script does.

    [[say TEXT]]                    answer with TEXT (default: the rest of the user text, or the tool results)
    [[think TEXT]]                  think first
    [[call NAME {JSON}]]            call a tool; several in one round are parallel
    [[then]]                        what follows is for the round after the tool results
    [[repeat N]]                    play this round N times
    [[deltas N TEXT]]               N deltas of TEXT (default "word ")
    [[error STATUS retry-after=S]]  HTTP error; a text after them is the message
    [[overflow]] [[html]] [[drop]] [[silence]]
    [[cut]] [[truncate]] [[error-event TEXT]] [[hang]]
    [[times N FAILURE…]]            fail N times, then answer
    [[usage input=N output=N cache_read=N cache_write=N]]
    [[stop REASON]] [[delta-size N]] [[delay MS]] [[batch N]] [[split N]] [[quirk NAME]]

Brackets that hold no directive are ordinary text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import cast, get_args

from flue.messages import AssistantContent, StopReason, TextContent, ThinkingContent, ToolCall, Usage
from flue.testing.provider.reply import FAILURES, QUIRKS, Failure, FailureKind, Quirk, Reply
from flue.testing.provider.wire import Turn, ViolationError

_OPEN = re.compile(r"\[\[([a-z-]+)")
_OPTION = re.compile(r"([a-z_-]+)=(\S+)\s*")
_JSON = json.JSONDecoder()
_LOST = "This answer is long enough to break in the middle, and nobody will see this end of it."
_WORDS = (
    frozenset(
        [
            "say",
            "think",
            "call",
            "then",
            "repeat",
            "deltas",
            "times",
            "usage",
            "stop",
            "delta-size",
            "delay",
            "batch",
            "split",
            "quirk",
        ]
    )
    | FAILURES
)


@dataclass
class _Round:
    """One answer of the model, as far as directives describe it."""

    reply: Reply = field(default_factory=Reply)
    count: int = 1
    failures: int = 0
    speaks: bool = False


@dataclass
class Plan:
    """A user text, read: the rounds it asks for and what remains of it."""

    rounds: list[_Round]
    rest: str

    @classmethod
    def read(cls, text: str) -> Plan:
        """Read a user text. Raises `ViolationError` for a directive that makes no sense."""
        rounds, rest, position = [_Round()], [], 0
        while found := _OPEN.search(text, position):
            if found[1] not in _WORDS:
                rest.append(text[position : found.end()])
                position = found.end()
                continue
            rest.append(text[position : found.start()])
            argument, position = _argument(text, found[1], found.end())
            try:
                _apply(rounds, found[1], argument)
            except ValueError as error:
                raise ViolationError(f"Directive [[{found[1]} {argument}]] cannot be read: {error}") from None
        rest.append(text[position:])
        return cls(rounds, "".join(rest).strip())

    def at(self, number: int) -> _Round | None:
        """Return the round with this number, or None when the plan is over."""
        for candidate in self.rounds:
            if number < candidate.count:
                return candidate
            number -= candidate.count
        return None


class Directives:
    """Answers requests by what their last user text says. Remembers only how often it has failed on purpose."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str, int], int] = {}

    def reply(self, turn: Turn, path: str) -> Reply:
        """Return the answer for a request to this path."""
        plan = Plan.read(turn.user_text)
        current = plan.at(turn.rounds)
        if current is None:
            current = _Round(Reply(delta_size=plan.rounds[-1].reply.delta_size))
        reply = current.reply
        if not current.speaks and not any(isinstance(block, ToolCall) for block in reply.content):
            text = "\n".join(turn.results) or plan.rest or (_LOST if reply.failure else "Done.")
            reply = replace(reply, content=(*reply.content, TextContent(text)))
        if current.failures and self._recovered((path, turn.user_text, turn.rounds), current.failures):
            reply = replace(reply, failure=None)
        return reply

    def _recovered(self, key: tuple[str, str, int], limit: int) -> bool:
        failed = self._failed.get(key, 0)
        if failed < limit:
            self._failed[key] = failed + 1
            return False
        del self._failed[key]
        return True


def _argument(text: str, word: str, start: int) -> tuple[str, int]:
    """Return a directive's argument and the position after its brackets; JSON may itself hold brackets."""
    search = start
    if word == "call" and (brace := text.find("{", start)) >= 0:
        close = text.find("]]", start)
        if close < 0 or brace < close:
            try:
                _, search = _JSON.raw_decode(text, brace)
            except ValueError as error:
                raise ViolationError(f"Directive [[call …]] cannot be read: {error}") from None
    end = text.find("]]", search)
    if end < 0:
        raise ViolationError(f"Directive [[{word} …]] has no closing brackets")
    return text[start:end].strip(), end + 2


def _apply(rounds: list[_Round], word: str, argument: str) -> None:
    current = rounds[-1]
    match word:
        case "then":
            rounds.append(_Round())
        case "repeat":
            current.count = int(argument)
        case "times":
            count, _, failure = argument.partition(" ")
            name, _, rest = failure.strip().partition(" ")
            current.failures = int(count)
            _fail(current, name, rest)
        case "say" | "think" | "deltas" | "call":
            _speak(current, word, argument)
        case name if name in FAILURES:
            _fail(current, name, argument)
        case _:
            current.reply = _shape(current.reply, word, argument)


def _speak(current: _Round, word: str, argument: str) -> None:
    block: AssistantContent
    size = current.reply.delta_size
    match word:
        case "think":
            block = ThinkingContent(argument)
        case "call":
            name, _, arguments = argument.partition(" ")
            block = ToolCall("", name, json.loads(arguments or "{}"))
        case "deltas":
            count, _, text = argument.partition(" ")
            text = text or "word "
            block, size = TextContent(text * int(count)), len(text)
        case _:
            block = TextContent(argument)
    current.speaks = current.speaks or isinstance(block, TextContent)
    current.reply = replace(current.reply, content=(*current.reply.content, block), delta_size=size)


def _fail(current: _Round, name: str, argument: str) -> None:
    if name not in FAILURES:
        raise ValueError(f"{name!r} is no failure")
    kind, status, retry_after = cast("FailureKind", name), 500, None
    if kind == "error":
        number, _, argument = argument.partition(" ")
        status = int(number)
    while option := _OPTION.match(argument):
        if option[1] != "retry-after":
            break
        retry_after, argument = float(option[2]), argument[option.end() :]
    current.reply = replace(current.reply, failure=Failure(kind, status, argument, retry_after))


def _shape(reply: Reply, word: str, argument: str) -> Reply:
    match word:
        case "usage":
            return replace(reply, usage=Usage(**{key: int(value) for key, value in _OPTION.findall(argument)}))  # type: ignore[arg-type]
        case "stop":
            if argument not in get_args(StopReason):
                raise ValueError(f"{argument!r} is no stop reason")
            return replace(reply, stop_reason=cast("StopReason", argument))
        case "quirk":
            if argument not in QUIRKS:
                raise ValueError(f"{argument!r} is no quirk")
            return replace(reply, quirks=reply.quirks | {cast("Quirk", argument)})
        case "delay":
            return replace(reply, delay=float(argument) / 1000)
        case "delta-size":
            return replace(reply, delta_size=int(argument))
        case "batch":
            return replace(reply, batch=max(1, int(argument)))
        case _:
            return replace(reply, split=int(argument))
