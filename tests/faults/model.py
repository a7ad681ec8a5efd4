"""The model: it knows from the conversation what comes next, so that it may be asked again at any point.

A message says what to do: `[[token plan=ww,r words=9]]` are two pieces of work at once, then a refund, each with nine
words before it, then an answer that ends with "end of token".
"""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

from flue.messages import TextContent, ToolCall
from flue.testing.provider.http import ProviderRequest
from flue.testing.provider.reply import Reply

ORDER = re.compile(r"\[\[(\S+)((?: \w+=[^\s\]]*)*)\]\]")
_TOOLS = {"w": "work", "l": "long_work", "r": "refund", "p": "pass_on"}


class Model:
    """Answers requests of the Anthropic kind. `pace` is seconds between pieces of an answer."""

    def __init__(self, chances: random.Random, pace: float = 0.002) -> None:
        self._chances = chances
        self._pace = pace
        self._nonces = itertools.count()

    def __call__(self, request: ProviderRequest) -> Reply:
        """Answer a request."""
        messages: list[Any] = request.json["messages"]
        place, token, plan, words = read_order(messages)
        turn = sum(_calls(message) for message in messages[place + 1 :])
        said = "".join(self._chances.choice(("so ", "then ", "and ", "well ")) for _ in range(words))
        if turn < len(plan):
            calls = [self._call(letter, f"{token}.{turn}.{at}") for at, letter in enumerate(plan[turn])]
            return self._reply(TextContent(said), *calls)
        return self._reply(TextContent(f"{said}end of {token}"))

    def _call(self, letter: str, place: str) -> ToolCall:
        arguments = {"token": f"{place}.{next(self._nonces)}"}
        if letter == "p":
            arguments["to"] = "passed"
        return ToolCall("", _TOOLS[letter], arguments)

    def _reply(self, *content: TextContent | ToolCall) -> Reply:
        return Reply(content=content, delta_size=6, batch=2, delay=self._pace)


def read_order(messages: list[Any]) -> tuple[int, str, list[str], int]:
    """Return the place of the newest order in a conversation, its token, its plan and how many words it wants."""
    for place in reversed(range(len(messages))):
        if messages[place]["role"] != "user":
            continue
        found = ORDER.findall(_text(messages[place]["content"]))
        if found:
            token, options = found[-1]
            named = dict(option.split("=") for option in options.split())
            return place, token, [turn for turn in named.get("plan", "").split(",") if turn], int(named.get("words", 6))
    raise AssertionError("nobody has asked for anything")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(block.get("text", "") for block in content if block["type"] == "text")


def _calls(message: Any) -> bool:
    return message["role"] == "assistant" and any(block["type"] == "tool_use" for block in message["content"])
