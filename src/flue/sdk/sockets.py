"""Conversations over a WebSocket, protocol version 1."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, cast

from flue.errors import UsageError
from flue.sdk.connections import Connect, Connection, SocketTarget
from flue.sdk.errors import FlueSocketError
from flue.sdk.events import Event
from flue.sdk.records import Invocation
from flue.sdk.requests import encode

logger = logging.getLogger("flue")

READY_SECONDS = 30.0
CLOSED = "Flue WebSocket connection closed."


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """The request that an event belongs to; `run_id` is there for workflows."""

    request_id: str
    run_id: str | None = None


Listener = Callable[[Event, SocketRequest], None]


class _Violation(Exception):  # noqa: N818 - a signal within this module
    """The server does not keep to the protocol."""


@dataclass(slots=True)
class _Waiting:
    """A request without its answer."""

    answer: asyncio.Future[Invocation]
    started: bool = False
    run_id: str | None = None


@dataclass(slots=True)
class _State:
    """What a socket holds while it is in use."""

    opening: asyncio.Task[Connection] | None = None
    reading: asyncio.Task[None] | None = None
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    pings: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    listeners: dict[int, Listener] = field(default_factory=dict)
    end: FlueSocketError | None = None


class Socket:
    """One connection. It is opened by `async with`, `await`, `ready()` or its first use, in that event loop.

    When it closes, by either side, whoever waits for an answer gets `FlueSocketError` (`socket_closed`). What the
    server has accepted goes on, and its events can be had over HTTP.
    """

    def __init__(self, connect: Connect, target: SocketTarget) -> None:
        self._connect = connect
        self._target = target
        self._state = _State()
        self._id = uuid.uuid4()
        self._numbers = count(1)
        connect.sockets.add(self)

    async def ready(self) -> None:
        """Wait until the server has greeted. Raises `FlueSocketError` when it does not."""
        await self._connected()

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(event, request)` for each event, and return a function that ends that. It must not block."""
        number = next(self._numbers)
        self._state.listeners[number] = listener
        return lambda: self._state.listeners.pop(number, None) and None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection; does nothing the second time."""
        state = self._state
        self._finish(FlueSocketError(CLOSED, code="socket_closed"))
        if state.opening is None:
            return
        state.opening.cancel()
        await asyncio.wait({state.opening})
        if not state.opening.cancelled() and state.opening.exception() is None:
            await self._hang_up(state.opening.result(), code, reason)

    async def __aenter__(self) -> Self:
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    # ------------------------------------------------------------------------------------------- asking

    async def _ask(self, type: str, **fields: Any) -> Invocation:
        connection = await self._connected()
        request_id = self._next_id()
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        text = encode({"version": 1, "type": type, "requestId": request_id, **fields}).decode()
        self._state.waiting[request_id] = waiting
        await self._send(connection, text)
        # Given up by its caller it stays in the table, so that its answer is known when it comes.
        return await waiting.answer

    async def _send(self, connection: Connection, text: str) -> None:
        try:
            await connection.send(text)
        except Exception as error:  # noqa: BLE001 - packages differ in how they say that a connection has ended
            self._finish(_closed(connection, error))

    def _next_id(self) -> str:
        return f"req_{self._id}_{next(self._numbers)}"

    # ------------------------------------------------------------------------------- opening and closing

    async def _connected(self) -> Connection:
        state = self._state
        if state.end is not None:
            raise state.end
        if state.opening is None:
            state.opening = asyncio.create_task(self._open())
            state.opening.add_done_callback(_seen)
        # Whoever is cancelled while waiting must not take the connection from the others.
        await asyncio.wait({state.opening})
        if state.end is not None:
            raise state.end
        return state.opening.result()

    async def _open(self) -> Connection:
        try:
            async with asyncio.timeout(READY_SECONDS):
                connection = await self._connect(self._target)
                try:
                    await self._greeted(connection)
                except BaseException:
                    await self._hang_up(connection, 1008, "No greeting")
                    raise
        except TimeoutError:
            raise FlueSocketError(
                f"The server did not greet within {READY_SECONDS:g} s.", code="socket_refused"
            ) from None
        self._state.reading = asyncio.create_task(self._read(connection))
        return connection

    async def _greeted(self, connection: Connection) -> None:
        try:
            frame = _frame(await connection.recv())
        except _Violation as violation:
            raise _broken_protocol(str(violation)) from None
        except Exception as error:
            raise _closed(connection, error) from error
        target = self._target
        expected = {"target": target.target, "name": target.name}
        if target.instance_id is not None:
            expected["instanceId"] = target.instance_id
        if frame["type"] != "ready" or any(frame.get(key) != value for key, value in expected.items()):
            raise _broken_protocol("the first frame is not its greeting")

    async def _hang_up(self, connection: Connection, code: int, reason: str) -> None:
        try:
            await connection.close(code, reason)
        except Exception as error:
            logger.debug("A WebSocket could not be closed in good order.", exc_info=error)
        if self._state.reading is not None and self._state.reading is not asyncio.current_task():
            self._state.reading.cancel()
            await asyncio.wait({self._state.reading})

    def _finish(self, end: FlueSocketError) -> None:
        """Tell everybody who waits that nothing comes any more."""
        state = self._state
        if state.end is not None:
            return
        state.end = end
        for request_id, waiting in state.waiting.items():
            if not waiting.answer.done():
                waiting.answer.set_exception(
                    FlueSocketError(
                        end.message, code=end.code, hint=end.hint, request_id=request_id, run_id=waiting.run_id
                    )
                )
        for ping in state.pings.values():
            if not ping.done():
                ping.set_exception(FlueSocketError(end.message, code=end.code, hint=end.hint))
        state.waiting.clear()
        state.pings.clear()

    # ------------------------------------------------------------------------------------------ reading

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                self._take(_frame(await connection.recv()))
            except _Violation as violation:
                self._finish(_broken_protocol(str(violation)))
                await self._hang_up(connection, 1008, "Protocol violation")
                return
            except Exception as error:  # noqa: BLE001 - packages differ in how they say that a connection has ended
                self._finish(_closed(connection, error))
                return

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "started" | "event" | "result":
                self._progress(frame)
            case "error":
                self._failed(frame)
            case "pong":
                ping = self._state.pings.pop(str(frame.get("requestId")), None)
                if ping is not None and not ping.done():
                    ping.set_result(None)
            case unknown:
                raise _Violation(f"there is no frame of type {unknown!r}")

    def _progress(self, frame: dict[str, Any]) -> None:
        waiting = self._waiting(frame)
        if self._target.target == "workflow":
            if not isinstance(frame.get("runId"), str) or waiting.run_id not in (None, frame["runId"]):
                raise _Violation("a frame does not name its run")
            waiting.run_id = frame["runId"]
        waiting.started = True
        if frame["type"] == "event":
            self._tell(frame, waiting)
        elif frame["type"] == "result":
            if "result" not in frame:
                raise _Violation("a result is missing")
            del self._state.waiting[frame["requestId"]]
            if not waiting.answer.done():
                waiting.answer.set_result(Invocation(frame["result"], waiting.run_id))

    def _tell(self, frame: dict[str, Any], waiting: _Waiting) -> None:
        event = frame.get("event")
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise _Violation("an event is no event")
        request = SocketRequest(frame["requestId"], waiting.run_id)
        for listener in tuple(self._state.listeners.values()):
            try:
                listener(cast("Event", event), request)
            except Exception:
                logger.exception("A listener of a WebSocket failed on %s.", event["type"])

    def _failed(self, frame: dict[str, Any]) -> None:
        error = frame.get("error")
        if not isinstance(error, dict):
            raise _Violation("an error says nothing")
        if "requestId" in frame:
            waiting = self._waiting(frame)
            del self._state.waiting[frame["requestId"]]
            _fail(waiting, error, frame["requestId"])
            return
        # The server did not understand a message: only one that it has not begun with can be meant.
        for request_id in [id for id, waiting in self._state.waiting.items() if not waiting.started]:
            _fail(self._state.waiting.pop(request_id), error, request_id)

    def _waiting(self, frame: dict[str, Any]) -> _Waiting:
        waiting = self._state.waiting.get(frame["requestId"]) if isinstance(frame.get("requestId"), str) else None
        if waiting is None:
            raise _Violation("a frame is for no request")
        return waiting


class AgentSocket(Socket):
    """Messages to an agent's instance; several may be under way, those to one session are answered in turn."""

    def __init__(self, connect: Connect, name: str, instance_id: str) -> None:
        super().__init__(connect, SocketTarget("agent", name, instance_id))

    async def prompt(
        self, message: str, *, session: str | None = None, busy: Literal["queue", "reject"] = "queue"
    ) -> Invocation:
        """Send a message and return the answer. Given up, the work goes on.

        Raises `FlueSocketError` when it fails, the server refuses, or the connection ends first.
        """
        if session is not None and not session.strip():
            raise UsageError(
                "A session's name must not be blank.", code="invalid_id", hint="Leave it out, or give one."
            )
        own = {"session": session} if session is not None else {}
        return await self._ask("prompt", message=message, **own, **({} if busy == "queue" else {"busy": busy}))

    async def ping(self) -> None:
        """Wait until the server has answered."""
        connection = await self._connected()
        request_id = self._next_id()
        pong = self._state.pings[request_id] = asyncio.get_running_loop().create_future()
        await self._send(connection, encode({"version": 1, "type": "ping", "requestId": request_id}).decode())
        await pong


class WorkflowSocket(Socket):
    """One run of a workflow; the server closes the connection after it."""

    def __init__(self, connect: Connect, name: str) -> None:
        super().__init__(connect, SocketTarget("workflow", name))
        self._invoked = False

    async def invoke(self, payload: Any = None) -> Invocation:
        """Run the workflow and return its result and the run's id. A payload of None is an empty object.

        Raises `UsageError` the second time, and as `AgentSocket.prompt`.
        """
        if self._invoked:
            raise UsageError(
                "A workflow's socket takes one invocation.", code="invocation_repeated", hint="Open another socket."
            )
        self._invoked = True
        return await self._ask("invoke", payload={} if payload is None else payload)


def _frame(data: str | bytes) -> dict[str, Any]:
    try:
        frame = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        frame = None
    if not isinstance(frame, dict):
        raise _Violation("a frame is no JSON object")
    version = frame.get("version")
    if version != 1 or version is True:
        raise _Violation(f"a frame has version {version!r}, known is 1")
    return {**frame, "type": frame.get("type")}


def _fail(waiting: _Waiting, error: dict[str, Any], request_id: str) -> None:
    if waiting.answer.done():
        return
    texts = {key: value for key in ("type", "message", "details") if isinstance(value := error.get(key), str)}
    kind = texts.get("type")
    waiting.answer.set_exception(
        FlueSocketError(
            texts.get("message", "The request failed."),
            code=kind,
            hint=texts.get("details", ""),
            error=error,
            request_id=request_id,
            run_id=waiting.run_id,
        )
    )


def _broken_protocol(how: str) -> FlueSocketError:
    return FlueSocketError(f"The server does not speak the protocol: {how}.", code="socket_protocol")


def _closed(connection: Connection, error: Exception) -> FlueSocketError:
    code, reason = getattr(connection, "close_code", None), getattr(connection, "close_reason", None)
    hint = f"The server said {code}: {reason}." if code and reason else f"({error})" if str(error) else ""
    return FlueSocketError(CLOSED, code="socket_closed", hint=hint)


def _seen(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled():
        task.exception()
