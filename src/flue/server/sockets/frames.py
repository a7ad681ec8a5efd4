"""What a socket's machine tells its driver to do, and the frames of protocol version 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flue.server.json_text import text_of

VERSION = 1
MAX_MESSAGE_BYTES = 1024 * 1024
# RFC 6455, 5.5: a control frame carries 125 bytes, two of which are the code.
MAX_REASON_BYTES = 123

Busy = Literal["queue", "reject"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection. Nothing follows."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class StartPrompt:
    """Admit a prompt, then tell the machine `accepted` or `failed`."""

    request_id: str
    message: str
    session: str
    busy: Busy


@dataclass(frozen=True, slots=True)
class StartWorkflow:
    """Admit a run, then tell the machine `accepted` or `failed`."""

    request_id: str
    payload: Any


Action = Send | Close | StartPrompt | StartWorkflow


def frame(type: str, **fields: Any) -> Send:
    """Return a frame; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return Send(text_of({"version": VERSION, "type": type, **given}))


def spliced(type: str, field: str, value: str, **fields: str) -> Send:
    """Return a frame whose last field is JSON text already: an event or a result is not parsed to be sent on."""
    head = text_of({"version": VERSION, "type": type, **fields})
    return Send(f'{head[:-1]},"{field}":{value}}}')


def malformed(details: str, request_id: str | None = None) -> Send:
    """Return the answer to a message that is not in order; the connection stays open."""
    error = {"type": "invalid_request", "message": "The request is not in order.", "details": details}
    return frame("error", requestId=request_id, error=error)


def closing(code: int, reason: str) -> Close:
    """Return the end of a connection; the reason is cut to what fits."""
    return Close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
