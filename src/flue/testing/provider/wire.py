"""What the four wire formats share: the interface, the checks' vocabulary, and the record of what was handed out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from flue.messages import Json, ToolCall, Usage
from flue.testing.provider.reply import Reply

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class ViolationError(Exception):
    """The request breaks a rule of the provider. `param` names the place."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def require(condition: object, message: str, param: str | None = None) -> None:
    """Raise `ViolationError` unless the condition holds."""
    if not condition:
        raise ViolationError(message, param)


@dataclass(slots=True)
class Turn:
    """What a request asks for: the last text of the user, and what has happened since.

    `rounds` counts the model's answers after that text, `results` holds the texts of the last round's tool results.
    `stamp` goes into the ids of the answer; the server makes it unique in a conversation.
    """

    model: str
    user_text: str = ""
    rounds: int = 0
    results: list[str] = field(default_factory=list)
    stamp: str = "1"

    def say(self, text: str) -> None:
        """Start again with a text of the user."""
        self.user_text, self.rounds, self.results = text, 0, []


@dataclass(slots=True)
class Frames:
    """An answer as server-sent events: `tail` are those without which the answer is incomplete."""

    body: list[bytes]
    tail: list[bytes]


class Ledger:
    """What the server handed out and wants back unchanged.

    A signature belongs to the model and the text it was made for; `partners` pairs a Responses item id with the id of
    the reasoning item that must accompany it.
    """

    def __init__(self) -> None:
        self._given: dict[str, set[tuple[str, str]]] = {}
        self.partners: dict[str, str] = {}

    def sign(self, model: str, text: str, wanted: str | None = None) -> str:
        """Return the signature for a text: `wanted`, or one that any other fake server would make too."""
        if wanted is None:
            return self._derive(model, text)
        self._given.setdefault(wanted, set()).add((model, text))
        return wanted

    def verify(self, model: str, text: str, signature: object) -> bool:
        """Say whether the signature was made for this model and text."""
        if not isinstance(signature, str):
            return False
        return signature == self._derive(model, text) or (model, text) in self._given.get(signature, ())

    @staticmethod
    def _derive(model: str, text: str) -> str:
        return base64.b64encode(hashlib.sha256(f"{model}\0{text}".encode()).digest()).decode()


class Wire(Protocol):
    """One provider's wire format."""

    api: ClassVar[str]
    base_path: ClassVar[str]

    def serves(self, path: str) -> bool:
        """Say whether a request to this path is meant for this format."""
        ...

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Return the API key that the request carries."""
        ...

    def turn(self, body: Json, path: str) -> Turn:
        """Read what a valid request asks for."""
        ...

    def check(self, body: Json, path: str, headers: Mapping[str, str], ledger: Ledger) -> None:
        """Raise `ViolationError` when the provider would refuse the request."""
        ...

    def frames(self, reply: Reply, body: Json, turn: Turn, usage: Usage, ledger: Ledger) -> Frames:
        """Encode an answer."""
        ...

    def error(self, status: int, message: str, param: str | None = None) -> Json:
        """Return the body of an error response."""
        ...

    def unauthorised(self) -> tuple[int, Json]:
        """Return status and body for a wrong or missing key."""
        ...

    def overflow(self) -> tuple[int, Json]:
        """Return status and body for a conversation that is too long."""
        ...

    def error_event(self, message: str, reply: Reply) -> bytes:
        """Return an error inside a stream."""
        ...


def sse(data: Json, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {text}\n\n".encode()


class DeltaFrames:
    """Encodes many deltas that differ only in their text: the frame around it is encoded once, repeats not at all."""

    _MARK = "\u0001text\u0001"

    def __init__(self, data: Json, event: str | None = None) -> None:
        frame = sse(data, event)
        self._before, self._after = frame.split(json.dumps(self._MARK).encode())
        self._seen: dict[str, bytes] = {}

    @classmethod
    def mark(cls) -> str:
        """Return the text that stands for the delta in the frame given to the constructor."""
        return cls._MARK

    def __call__(self, text: str) -> bytes:
        """Return the event for one delta."""
        frame = self._seen.get(text)
        if frame is None:
            encoded = json.dumps(text, ensure_ascii=False).encode()
            frame = self._seen[text] = self._before + encoded + self._after
        return frame


def pieces(text: str, size: int) -> Iterator[str]:
    """Cut a text into deltas."""
    step = max(1, size)
    return (text[start : start + step] for start in range(0, len(text), step))


def arguments_text(call: ToolCall) -> str:
    """Return a call's arguments as the model would write them."""
    return json.dumps(call.arguments, separators=(",", ":"), ensure_ascii=False)


def check_image(media_type: object, data: object, where: str) -> None:
    """Refuse what no provider could decode."""
    require(media_type in IMAGE_TYPES, f"{where}: unsupported image type {media_type!r}", where)
    try:
        valid = isinstance(data, str) and bool(binascii.a2b_base64(data, strict_mode=True))
    except binascii.Error:
        valid = False
    require(valid, f"{where}: invalid base64 data", where)


def check_object(value: object, where: str) -> dict[str, Any]:
    """Return `value` when it is a JSON object."""
    if not isinstance(value, dict):
        raise ViolationError(f"{where}: expected an object", where)
    return value


def check_list(value: object, where: str, *, filled: bool = True) -> list[Any]:
    """Return `value` when it is a list, by default with something in it."""
    if not isinstance(value, list) or (filled and not value):
        raise ViolationError(f"{where}: expected a list{' with at least one item' if filled else ''}", where)
    return value


def check_text(value: object, where: str) -> str:
    """Return `value` when it is text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ViolationError(f"{where}: text must not be empty", where)
    return value


def check_name(value: object, where: str) -> str:
    """Return `value` when it may name a tool."""
    if not isinstance(value, str) or not TOOL_NAME.fullmatch(value):
        raise ViolationError(f"{where}: {value!r} must match ^[a-zA-Z0-9_-]{{1,64}}$", where)
    return value


def check_unique(names: list[str], where: str) -> None:
    """Refuse two tools of one name."""
    require(len(names) == len(set(names)), f"{where}: tool names must be unique", where)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of an Authorization header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
