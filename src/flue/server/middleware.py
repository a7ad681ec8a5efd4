"""The `route` and `websocket` of a module: True, or the user's own `async def (request, call_next)`.

It runs for its own module's endpoints, after the address has been checked and before the body is read. What it returns
is the answer: a response of its own, or the one that `call_next` gave, changed if it likes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from flue.errors import UsageError
from flue.project.modules import Exposure

Next = Callable[[Request], Awaitable[Response]]


async def through(exposure: Exposure, request: Request, handler: Callable[[], Awaitable[Response]]) -> Response:
    """Return the answer of `handler` behind the middleware of an exposed module.

    `handler` does not raise. Raises `UsageError` for middleware that neither answers nor calls `call_next`, or calls
    it twice, and whatever the middleware raises.
    """
    if exposure is True or exposure is None:
        return await handler()
    answers: list[Response] = []

    async def call_next(_: Request | None = None) -> Response:
        if answers:
            raise UsageError("Middleware called call_next twice.", code="invalid_middleware", hint="Call it once.")
        answers.append(await handler())
        return answers[0]

    answer = await exposure(request, call_next)
    if isinstance(answer, Response):
        return answer
    if answer is None and answers:
        return answers[0]
    raise UsageError(
        f"Middleware returned {_kind(answer)} in place of a response.",
        code="invalid_middleware",
        hint="Return a starlette Response, or what `await call_next(request)` gives.",
    )


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
