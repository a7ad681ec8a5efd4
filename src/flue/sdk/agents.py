"""`client.agents`: ask agents, listen to them, and decide for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Literal, cast

from flue.errors import UsageError
from flue.sdk.connections import Connect
from flue.sdk.errors import FlueApiError, not_the_protocol
from flue.sdk.events import Event
from flue.sdk.records import DispatchReceipt, Invocation, SubmissionRecord
from flue.sdk.requests import Requests, Stream
from flue.sdk.runs import RUN_ID, Runs, after_header, key_header
from flue.sdk.sockets import AgentSocket
from flue.sdk.streams import Log, Retry, follow
from flue.sdk.urls import path_of

SUBMISSION_ID = "X-Flue-Submission-Id"
Busy = Literal["queue", "reject"]


class Agents:
    """Agents by name; `id` is the instance's: a customer, a document, whatever it remembers things for."""

    def __init__(self, requests: Requests, runs: Runs, connect: Connect) -> None:
        self._requests = requests
        self._runs = runs
        self._connect = connect

    async def invoke(
        self,
        name: str,
        id: str,
        message: str | None = None,
        *,
        payload: Any = None,
        session: str | None = None,
        busy: Busy = "queue",
        wait: bool = True,
        key: str | None = None,
    ) -> Invocation:
        """Send a message to an agent, or a `payload` to a function agent, and return the answer.

        The answer comes when the work is done, or waits for a person (`waiting_for`). A busy session answers messages
        one after the other; `busy="reject"` refuses to wait. `wait=False` is for function agents: it returns the run's
        id at once. The same `key` with the same content is accepted once, so that a call that was cut off can be
        repeated. Raises `FlueApiError` when the server refuses or the work fails, `FlueTransportError` when there is no
        answer; what was accepted goes on then.
        """
        headers = {**key_header(key), **({} if wait else {"X-Webhook": "true"})}
        body = _body(message, payload, session)
        path = path_of("agents", name, id)
        answer = await self._requests.send("POST", path, body=body, query=_query(busy), headers=headers)
        run_id, submission_id = answer.headers.get(RUN_ID), answer.headers.get(SUBMISSION_ID)
        return Invocation(answer.body.get("result"), run_id, submission_id, answer.body.get("waitingFor"))

    async def stream(
        self,
        name: str,
        id: str,
        message: str | None = None,
        *,
        payload: Any = None,
        session: str | None = None,
        busy: Busy = "queue",
        key: str | None = None,
        max_retries: int = 3,
        initial_retry_ms: int = 250,
    ) -> AsyncGenerator[Event, None]:
        """Send a message to an agent, or a `payload` to a function agent, and yield what happens, each event once.

        The answer is in the last `operation` event's `result`. A connection that breaks is opened again, `max_retries`
        times without a new event in between, first after `initial_retry_ms`, then after twice as long each time.
        Raises as `invoke`, and `FlueTransportError` (`stream_closed`) when that does not help.
        """
        prompt = _Prompt(self._requests, path_of("agents", name, id))
        body = _body(message, payload, session)
        retry = Retry(max_retries, initial_retry_ms)
        async with prompt.begin(body, _query(busy), key_header(key)) as first:
            run_id = first.headers.get(RUN_ID)
            log = prompt.log(first) if run_id is None else self._runs.log(run_id)
            async with aclosing(follow(log, retry, first=first)) as frames:
                async for frame in frames:
                    if run_id is None and (frame.event.get("instanceId") != id or "runId" in frame.event):
                        raise not_the_protocol(f"The stream holds an event of something else than {name}/{id}.")
                    yield cast("Event", frame.event)
        await prompt.check()

    def connect(self, name: str, id: str) -> AgentSocket:
        """Return a WebSocket to an agent's instance; `async with` or its first use opens it."""
        return AgentSocket(self._connect, name, id)

    async def dispatch(
        self, name: str, id: str, input: Any, *, session: str | None = None, dispatch_id: str | None = None
    ) -> DispatchReceipt:
        """Leave an agent something to do, and return when that is on disk.

        The client's token must be the server's FLUE_DISPATCH_TOKEN. The same `dispatch_id` with the same input is
        accepted once.
        """
        body = {"input": input, **_given(session=session, dispatchId=dispatch_id)}
        answer = await self._requests.send("POST", path_of("agents", name, id, "dispatch"), body=body)
        return DispatchReceipt(answer.field("dispatchId", str), answer.field("acceptedAt", str))

    async def follow(
        self,
        name: str,
        id: str,
        *,
        last_event_id: str | None = None,
        max_retries: int = 3,
        initial_retry_ms: int = 250,
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """Yield all that an instance does, with the id that goes on after it; never ends by itself.

        `last_event_id` is such an id; without it the stream starts with the first event that is kept.
        """
        path = path_of("agents", name, id, "stream")
        log = Log(open=lambda after: self._requests.stream("GET", path, headers=after_header(after)))
        async with aclosing(follow(log, Retry(max_retries, initial_retry_ms), last_id=last_event_id)) as frames:
            async for frame in frames:
                yield frame.id, cast("Event", frame.event)

    async def submission(self, name: str, id: str, submission_id: str) -> SubmissionRecord:
        """Return what became of a message so far."""
        path = _submission(path_of("agents", name, id), submission_id)
        return cast("SubmissionRecord", (await self._requests.send("GET", path)).body)

    async def abort(self, name: str, id: str, submission_id: str, *, reason: str | None = None) -> SubmissionRecord:
        """End the work on a message; what has ended stays as it is."""
        path = _submission(path_of("agents", name, id), submission_id) + "/abort"
        return cast("SubmissionRecord", (await self._requests.send("POST", path, body=_given(reason=reason))).body)

    async def approve(self, name: str, id: str, tool_call_id: str, *, session: str | None = None) -> None:
        """Let a tool call run that waits for a person."""
        await self._decide(name, id, tool_call_id, _given(approved=True, session=session))

    async def deny(
        self, name: str, id: str, tool_call_id: str, *, reason: str | None = None, session: str | None = None
    ) -> None:
        """Refuse a tool call that waits for a person; the model is told the reason."""
        await self._decide(name, id, tool_call_id, _given(approved=False, reason=reason, session=session))

    async def raise_budget(
        self, name: str, id: str, budget: Mapping[str, float], *, session: str | None = None
    ) -> None:
        """Give a session that used its budget up a larger one: it goes on. Needs the token that `dispatch` needs."""
        body = {**budget, **_given(session=session)}
        await self._requests.send("POST", path_of("agents", name, id, "budget"), body=body)

    async def _decide(self, name: str, id: str, tool_call_id: str, body: dict[str, Any]) -> None:
        await self._requests.send("POST", path_of("agents", name, id, "approvals", tool_call_id), body=body)


class _Prompt:
    """One message whose events are streamed: where they can be had again, and what came of it."""

    def __init__(self, requests: Requests, path: str) -> None:
        self._requests = requests
        self._path = path
        self._submission = ""
        self._resumed = False

    def begin(self, body: Any, query: dict[str, str], headers: dict[str, str]) -> AbstractAsyncContextManager[Stream]:
        """Send the message."""
        failure = "Invocation stream failed with HTTP {status}."
        return self._requests.stream("POST", self._path, body=body, query=query, headers=headers, failure=failure)

    def log(self, first: Stream) -> Log:
        """Return the message's log. Servers that give no id for it cannot send it again."""
        submission_id = first.headers.get(SUBMISSION_ID)
        if submission_id is None:
            return Log(open=None, last="idle")
        self._submission = _submission(self._path, submission_id)
        return Log(open=self._again, last="idle", is_over=self._is_over)

    async def check(self) -> None:
        """Raise `FlueApiError` when the work failed, which a connection after the first does not say."""
        if not self._resumed:
            return
        record = (await self._requests.send("GET", self._submission)).body
        if (status := record.get("status")) in ("failed", "aborted"):
            kind = "aborted" if status == "aborted" else "internal_error"
            raise FlueApiError(200, {"error": {"type": kind, "message": f"The work {status}.", "record": record}})

    def _again(self, after: str | None) -> AbstractAsyncContextManager[Stream]:
        self._resumed = True
        return self._requests.stream("GET", f"{self._submission}/stream", headers=after_header(after))

    async def _is_over(self) -> bool:
        record = (await self._requests.send("GET", self._submission)).body
        return record.get("status") in ("completed", "failed", "aborted")


def _submission(path: str, submission_id: str) -> str:
    return path + path_of("submissions", submission_id)


def _body(message: str | None, payload: Any, session: str | None) -> Any:
    if (message is None) == (payload is None):
        raise UsageError(
            "An agent is asked by a message or by a payload.",
            code="invalid_input",
            hint="Give one of them: message for conversations, payload for agents with run().",
        )
    return payload if message is None else _given(message=message, session=session)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _query(busy: Busy) -> dict[str, str]:
    return {} if busy == "queue" else {"busy": busy}
