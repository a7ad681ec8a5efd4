"""What can go wrong between a client and a server.

FlueError
├── FlueApiError         the server answered with an error
├── FlueTransportError   the server cannot be reached, broke off, or does not speak the protocol
└── FlueSocketError      a WebSocket's request failed, or its connection ended before the answer
"""

from __future__ import annotations

from typing import Any

from flue.errors import FlueError


class FlueApiError(FlueError):
    """The server answered with an error.

    `status` is the HTTP status (200 for an error inside a stream), `body` the answer: JSON values, or text when it is
    no JSON. `code` is the type in the error envelope, `api_error` when there is none.
    """

    default_code = "api_error"

    def __init__(self, status: int, body: Any, *, message: str = "") -> None:
        error = envelope_of(body)
        code = error.get("type", "")
        text = message or _described(status, code, error.get("message", ""))
        super().__init__(text, code=code or None, hint=error.get("details", ""))
        self.status = status
        self.body = body


class FlueTransportError(FlueError):
    """The server cannot be reached, broke the connection, or does not speak the protocol.

    `retryable` says whether the same request may succeed later.
    """

    default_code = "server_unreachable"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", retryable: bool = True) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retryable = retryable


class FlueSocketError(FlueError):
    """A request over a WebSocket failed, or its connection ended first: what was accepted then goes on all the same.

    `error` is what the server said, `{type, message, details}`, or None. `request_id` and `run_id` name the request,
    as far as they are known.
    """

    default_code = "socket_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        error: dict[str, Any] | None = None,
        request_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.error = error
        self.request_id = request_id
        self.run_id = run_id


def envelope_of(body: Any) -> dict[str, str]:
    """Return the texts of an error envelope; empty for anything else."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return {}
    return {key: value for key in ("type", "message", "details") if isinstance(value := error.get(key), str)}


def not_the_protocol(what: str) -> FlueTransportError:
    """Return the error for an answer that cannot be understood."""
    hint = "Check that the base URL is that of a Flue server, and its version."
    return FlueTransportError(what, code="server_protocol", hint=hint, retryable=False)


def _described(status: int, code: str, message: str) -> str:
    kind = f" [{code}]" if code else ""
    return f"Flue API error {status}{kind}: {message}" if message else f"Flue API error {status}{kind}."
