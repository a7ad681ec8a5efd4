"""JSON with comments and trailing commas, as Wrangler reads it, and its text again."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)")
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_DEEPEST = 100
_DECODER = json.JSONDecoder()


class JsoncError(ValueError):
    """A text is not JSON with comments. `line` and `column` count from 1."""

    def __init__(self, message: str, text: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = text.count("\n", 0, offset) + 1
        self.column = offset - text.rfind("\n", 0, offset)


def read_jsonc(text: str) -> Any:
    """Return the value that `text` holds.

    Raises `JsoncError`; also for a key that stands twice in one object, which JSON allows and nobody means.
    """
    reader = _Reader(text)
    value = reader.value(0)
    if reader.peek():
        reader.fail("nothing may follow the value")
    return value


def write_jsonc(value: Any) -> str:
    """Return `value` as text that ends with a newline: indented by tabs, keys in their order, non-ASCII as it is."""
    text = json.dumps(value, indent="\t", ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair cannot be encoded; its escape means the same to every reader of JSON.
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


class _Reader:
    """Reads a text from front to back; `at` is where it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        """Skip space and comments; return the character there, empty at the end."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        if self.text.startswith("/*", self.at):
            self.fail("this comment is never closed")
        return self.text[self.at : self.at + 1]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        raise JsoncError(message, self.text, self.at if at is None else at)

    def value(self, depth: int) -> Any:
        character = self.peek()
        if depth > _DEEPEST:
            self.fail("this is nested too deeply")
        if character == "{":
            return self.object(depth)
        if character == "[":
            return self.array(depth)
        return self.string() if character == '"' else self.scalar()

    def object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        opened = self.at
        self.at += 1
        while (character := self.peek()) != "}":
            if character != '"':
                self.unclosed(opened, "a key in double quotes is expected here")
            start = self.at
            key = self.string()
            if key in members:
                self.fail(f'"{key}" stands twice in one object', start)
            if self.peek() != ":":
                self.fail(f'a colon is missing after "{key}"')
            self.at += 1
            members[key] = self.value(depth + 1)
            self.separator(opened, "}")
        self.at += 1
        return members

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        opened = self.at
        self.at += 1
        while self.peek() != "]":
            if not self.peek():
                self.unclosed(opened, "")
            items.append(self.value(depth + 1))
            self.separator(opened, "]")
        self.at += 1
        return items

    def separator(self, opened: int, end: str) -> None:
        """Take the comma after a value, which may be missing or superfluous before `end`."""
        character = self.peek()
        if character == ",":
            self.at += 1
        elif character != end:
            self.unclosed(opened, f'a comma or "{end}" is expected here')

    def unclosed(self, opened: int, message: str) -> NoReturn:
        """Fail: at the opening bracket when the text has ended, else here."""
        if self.at >= len(self.text):
            self.fail(f'this "{self.text[opened]}" is never closed', opened)
        self.fail(message)

    def string(self) -> str:
        try:
            value, self.at = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.fail(error.msg[0].lower() + error.msg[1:], error.pos)
        return str(value)

    def scalar(self) -> Any:
        match = _SCALAR.match(self.text, self.at)
        if match is None:
            word = _WORD.match(self.text, self.at)
            self.fail(f"{word.group()} is not a value" if word else "a value is missing here")
        self.at = match.end()
        value = json.loads(match.group())
        if value in (float("inf"), float("-inf")):
            self.fail(f"{match.group()} is too large a number", match.start())
        return value
