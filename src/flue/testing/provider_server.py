"""A fake model provider for tests, demos and benchmarks: four wire formats over real HTTP on the loopback interface.

It is strict where the real services are: a request that they would refuse gets their error, in their shape. What it
answers is scripted (`ProviderServer(script=[…])`), or steered by directives in the user's text
(`flue.testing.provider.directives` lists them), or else an echo.

`python -m flue.testing.provider_server --port 0` runs one in its own process and prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from flue.messages import Json, TextContent, ThinkingContent, Usage
from flue.testing.provider.anthropic import AnthropicMessages
from flue.testing.provider.directives import Directives
from flue.testing.provider.google import GoogleGenerativeAI
from flue.testing.provider.http import MAX_HEAD, Connection, Outcome, ProviderRequest
from flue.testing.provider.openai_completions import OpenAICompletions
from flue.testing.provider.openai_responses import OpenAIResponses
from flue.testing.provider.reply import Failure, Quirk, RawReply, Reply, call, reply
from flue.testing.provider.wire import Frames, Ledger, Turn, ViolationError, Wire, arguments_text

__all__ = ["Failure", "ProviderRequest", "ProviderServer", "Quirk", "RawReply", "Reply", "call", "reply"]

WIRES: tuple[Wire, ...] = (AnthropicMessages(), OpenAICompletions(), OpenAIResponses(), GoogleGenerativeAI())
APIS: tuple[str, ...] = tuple(wire.api for wire in WIRES)
Answer = Reply | RawReply | str
Script = Iterable[Answer] | Callable[[ProviderRequest], Answer | Awaitable[Answer]]

_PAGE = b"<!doctype html><html><body><h1>Welcome to the portal</h1><p>Please sign in.</p></body></html>"


class ProviderServer:
    """A fake provider on 127.0.0.1, as an async context manager.

    `script` is a list of answers, one a request, or a callable from request to answer; a plain string is an answer in
    text. When the list is used up, or without one, directives in the user's text decide, else the answer is an echo.
    With `api_key` every other key is refused. `check=False` accepts any request; `record=False` keeps no requests.
    An exception in the callable is answered with 400 and raised when the server closes.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        api_key: str | None = None,
        check: bool = True,
        record: bool = True,
        port: int = 0,
    ) -> None:
        self.requests: list[ProviderRequest] = []
        self.connections = 0
        self._choose = script if callable(script) else None
        self._queue: deque[Answer] = deque(() if script is None or callable(script) else script)
        self._api_key = api_key
        self._check = check
        self._record = record
        self._port = port
        self._directives = Directives()
        self._ledger = Ledger()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._served = 0
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=MAX_HEAD)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None and error is None:
            raise self._failure

    @property
    def url(self) -> str:
        """Return `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self._port}"

    def base_url(self, api: str) -> str:
        """Return the base URL to configure for a wire format. Raises `ValueError` for an unknown one."""
        for wire in WIRES:
            if wire.api == api:
                return self.url + wire.base_path
        raise ValueError(f"unknown api {api!r}; known are {', '.join(APIS)}")

    def enqueue(self, *answers: Answer) -> None:
        """Add answers to the script."""
        self._queue.extend(answers)

    def register(self, provider_id: str = "fake", *, api: str = "anthropic-messages", **options: Any) -> None:
        """Register this server as a provider: any `<provider_id>/<model>` is then answered by it.

        `options` go to `flue.models.register_provider`.
        """
        from flue.models import register_provider

        options = {"api_key": self._api_key or "test-key", **options}
        register_provider(provider_id, api=api, base_url=self.base_url(api), **options)

    # -------------------------------------------------------------------------------------------- connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await Connection(reader, writer).serve(self._answer)
        except asyncio.CancelledError:
            pass  # the server is closing; a cancelled handler would be reported as a failure by asyncio.streams
        finally:
            self._tasks.discard(task)

    async def _answer(self, connection: Connection, request: ProviderRequest) -> None:
        if self._record:
            self.requests.append(request)
        wire = next((wire for wire in WIRES if wire.serves(request.path)), None)
        if wire is None or request.method != "POST":
            await _refuse(connection, request, 404, {"error": {"message": f"No route {request.path}"}})
            return
        if self._api_key is not None and wire.key(request.headers, request.query) != self._api_key:
            await _refuse(connection, request, *wire.unauthorised())
            return
        try:
            body = _json(request)
            if self._check:
                wire.check(body, request.path, request.headers, self._ledger)
            turn = wire.turn(body, request.path)
            self._served += 1
            # Ids stay unique when a conversation outlives a server and when its beginning is dropped.
            turn.stamp = f"{self._served}_{len(request.body)}"
            answer = await self._next(request, turn)
        except ViolationError as violation:
            await _refuse(connection, request, 400, wire.error(400, violation.message, violation.param))
            return
        except Exception as error:  # noqa: BLE001 -- raised again when the server closes
            self._failure = self._failure or error
            await _refuse(connection, request, 400, wire.error(400, f"The fake provider failed: {error!r}"))
            return
        if isinstance(answer, RawReply):
            await connection.send(answer.status, answer.body, answer.content_type, answer.headers)
            request.settle("served" if answer.status < 400 else "refused")
            return
        exchange = _Exchange(connection, request, wire, answer, self._ledger)
        request.settle(await exchange.run(body, turn))

    async def _next(self, request: ProviderRequest, turn: Turn) -> Reply | RawReply:
        if self._queue:
            answer = self._queue.popleft()
        elif self._choose is not None:
            chosen = self._choose(request)
            answer = await chosen if inspect.isawaitable(chosen) else chosen
        else:
            answer = self._directives.reply(turn, request.path)
        return reply(answer) if isinstance(answer, str) else answer


class _Exchange:
    """Sends one scripted answer, with whatever is to go wrong with it."""

    def __init__(
        self, connection: Connection, request: ProviderRequest, wire: Wire, answer: Reply, ledger: Ledger
    ) -> None:
        self._connection = connection
        self._request = request
        self._wire = wire
        self._reply = answer
        self._ledger = ledger

    async def run(self, body: Json, turn: Turn) -> Outcome:
        failure = self._reply.failure
        if failure is not None and failure.kind in ("error", "overflow", "html", "drop", "silence"):
            return await self._fail_at_once(failure)
        usage = self._reply.usage or _estimate(self._reply, self._request)
        return await self._stream(self._wire.frames(self._reply, body, turn, usage, self._ledger), failure)

    async def _fail_at_once(self, failure: Failure) -> Outcome:
        match failure.kind:
            case "drop":
                await self._connection.cut()
                return "broken"
            case "silence":
                await self._connection.wait_closed()
                return "disconnected"
            case "html":
                await self._connection.send(200, _PAGE, "text/html; charset=utf-8")
                return "broken"
            case "overflow":
                status, data = self._wire.overflow()
            case _:
                status = failure.status
                data = self._wire.error(status, failure.message or f"Failed on purpose with status {status}.")
        wait = () if failure.retry_after is None else (("retry-after", f"{failure.retry_after:g}"),)
        await self._connection.send(status, json.dumps(data).encode(), "application/json", wait)
        return "refused"

    async def _stream(self, frames: Frames, failure: Failure | None) -> Outcome:
        self._connection.open_stream()
        if failure is None:
            return await self._finish(frames.body + frames.tail, "served")
        if failure.kind == "truncate":
            return await self._finish(frames.body, "broken")
        begun = frames.body[: max(1, len(frames.body) * 2 // 3)]
        if failure.kind == "error-event":
            return await self._finish([*begun, self._wire.error_event(failure.message, self._reply)], "broken")
        await self._write(begun)
        if failure.kind == "cut":
            await self._connection.cut()
            return "broken"
        await self._connection.wait_closed()
        return "disconnected"

    async def _finish(self, frames: list[bytes], outcome: Outcome) -> Outcome:
        if not await self._write(frames):
            return "disconnected"
        await self._connection.close_stream()
        return outcome

    async def _write(self, frames: list[bytes]) -> bool:
        reply = self._reply
        if "comments" in reply.quirks:
            frames = [piece for frame in frames for piece in (b": PROCESSING\n\n", frame)]
        if "crlf" in reply.quirks:
            frames = [frame.replace(b"\n", b"\r\n") for frame in frames]
        if reply.split:
            whole = b"".join(frames)
            frames = [whole[start : start + reply.split] for start in range(0, len(whole), reply.split)]
        for start in range(0, len(frames), reply.batch):
            if reply.delay:
                await asyncio.sleep(reply.delay)
            if self._connection.closing:
                return False
            await self._connection.write_chunks(frames[start : start + reply.batch])
        return True


async def _refuse(connection: Connection, request: ProviderRequest, status: int, body: Json) -> None:
    await connection.send(status, json.dumps(body).encode(), "application/json")
    request.settle("refused")


def _json(request: ProviderRequest) -> Json:
    try:
        return request.json
    except ValueError as error:
        raise ViolationError(f"We could not parse the JSON body of your request: {error}") from None


def _estimate(reply: Reply, request: ProviderRequest) -> Usage:
    """Return a usage that grows with what was sent: four bytes to a token."""
    written = 0
    for block in reply.content:
        match block:
            case TextContent():
                written += len(block.text)
            case ThinkingContent():
                written += len(block.thinking)
            case call:
                written += len(arguments_text(call))
    return Usage(input=max(1, len(request.body) // 4), output=max(1, written // 4))


async def _serve(arguments: argparse.Namespace) -> None:
    server = ProviderServer(api_key=arguments.api_key, check=not arguments.no_check, record=False, port=arguments.port)
    async with server:
        print(server.url, flush=True)  # noqa: T201 -- the address is what this command is for
        await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> None:
    """Run a server until it is interrupted, after printing its address on one line."""
    parser = argparse.ArgumentParser("python -m flue.testing.provider_server", description="A fake model provider.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--api-key", help="refuse every other key")
    parser.add_argument("--no-check", action="store_true", help="accept requests that real providers would refuse")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
