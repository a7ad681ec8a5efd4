"""The client for code without `await`: the async one in a thread of its own, method by method."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from flue.sdk.admin import Admin, AdminAgents, AdminRuns
from flue.sdk.agents import Agents, Busy
from flue.sdk.client import AsyncClient
from flue.sdk.connections import WebSocketFactory, WebSocketUrl
from flue.sdk.events import Event
from flue.sdk.records import AgentInfo, DispatchReceipt, Invocation, RunPage, RunRecord, SubmissionRecord
from flue.sdk.requests import Headers
from flue.sdk.runs import Runs
from flue.sdk.sockets import AgentSocket, Listener, Socket, WorkflowSocket
from flue.sdk.workflows import Workflows
from flue.sync.portal import Portal

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


class Client:
    """`AsyncClient` for code without `await`: the same arguments, the same methods, which return their values.

    Streams are plain iterators. `headers`, `websocket_url` and what listens to sockets are called in a background
    thread. May be used from several threads. Use it in a `with` block, or `close()` it; forgotten, it closes itself.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str | None = None,
        headers: Headers | None = None,
        admin_base_path: str = "/admin",
        websocket_base_path: str = "",
        websocket_url: WebSocketUrl | None = None,
        websocket: WebSocketFactory | None = None,
        timeout: float | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        client = AsyncClient(
            base_url=base_url,
            token=token,
            headers=headers,
            admin_base_path=admin_base_path,
            websocket_base_path=websocket_base_path,
            websocket_url=websocket_url,
            websocket=websocket,
            timeout=timeout,
            http_client=http_client,
        )
        self._portal = Portal(client, what="client", again="flue.sdk.Client()")
        self.agents = SyncAgents(self._portal, client.agents)
        self.workflows = SyncWorkflows(self._portal, client.workflows)
        self.runs = SyncRuns(self._portal, client.runs)
        self.admin = SyncAdmin(self._portal, client.admin)

    def close(self) -> None:
        """Close its WebSockets and connections, and end the background thread. What was accepted goes on."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SyncAgents:
    """`client.agents`; see `AsyncClient`'s."""

    def __init__(self, portal: Portal[AsyncClient], agents: Agents) -> None:
        self._portal = portal
        self._agents = agents

    def invoke(
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
        """Send a message to an agent, or a payload to a function agent, and return the answer."""
        return self._portal.call(
            lambda: self._agents.invoke(
                name, id, message, payload=payload, session=session, busy=busy, wait=wait, key=key
            )
        )

    def stream(
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
    ) -> Iterator[Event]:
        """Send a message to an agent and yield what happens."""
        return _iterate(
            self._portal,
            lambda: self._agents.stream(
                name,
                id,
                message,
                payload=payload,
                session=session,
                busy=busy,
                key=key,
                max_retries=max_retries,
                initial_retry_ms=initial_retry_ms,
            ),
        )

    def connect(self, name: str, id: str) -> SyncAgentSocket:
        """Return a WebSocket to an agent's instance."""
        return SyncAgentSocket(self._portal, self._agents.connect(name, id))

    def dispatch(
        self, name: str, id: str, input: Any, *, session: str | None = None, dispatch_id: str | None = None
    ) -> DispatchReceipt:
        """Leave an agent something to do."""
        return self._portal.call(
            lambda: self._agents.dispatch(name, id, input, session=session, dispatch_id=dispatch_id)
        )

    def follow(
        self,
        name: str,
        id: str,
        *,
        last_event_id: str | None = None,
        max_retries: int = 3,
        initial_retry_ms: int = 250,
    ) -> Iterator[tuple[str, Event]]:
        """Yield all that an instance does."""
        return _iterate(
            self._portal,
            lambda: self._agents.follow(
                name, id, last_event_id=last_event_id, max_retries=max_retries, initial_retry_ms=initial_retry_ms
            ),
        )

    def submission(self, name: str, id: str, submission_id: str) -> SubmissionRecord:
        """Return what became of a message so far."""
        return self._portal.call(lambda: self._agents.submission(name, id, submission_id))

    def abort(self, name: str, id: str, submission_id: str, *, reason: str | None = None) -> SubmissionRecord:
        """End the work on a message."""
        return self._portal.call(lambda: self._agents.abort(name, id, submission_id, reason=reason))

    def approve(self, name: str, id: str, tool_call_id: str, *, session: str | None = None) -> None:
        """Let a tool call run that waits for a person."""
        self._portal.call(lambda: self._agents.approve(name, id, tool_call_id, session=session))

    def deny(
        self, name: str, id: str, tool_call_id: str, *, reason: str | None = None, session: str | None = None
    ) -> None:
        """Refuse a tool call that waits for a person."""
        self._portal.call(lambda: self._agents.deny(name, id, tool_call_id, reason=reason, session=session))

    def raise_budget(self, name: str, id: str, budget: Mapping[str, float], *, session: str | None = None) -> None:
        """Give a session that used its budget up a larger one."""
        self._portal.call(lambda: self._agents.raise_budget(name, id, budget, session=session))


class SyncWorkflows:
    """`client.workflows`; see `AsyncClient`'s."""

    def __init__(self, portal: Portal[AsyncClient], workflows: Workflows) -> None:
        self._portal = portal
        self._workflows = workflows

    def invoke(self, name: str, payload: Any = None, *, wait: bool = True, key: str | None = None) -> Invocation:
        """Run a workflow and return its result."""
        return self._portal.call(lambda: self._workflows.invoke(name, payload, wait=wait, key=key))

    def stream(
        self,
        name: str,
        payload: Any = None,
        *,
        key: str | None = None,
        max_retries: int = 3,
        initial_retry_ms: int = 250,
    ) -> Iterator[Event]:
        """Run a workflow and yield what happens."""
        return _iterate(
            self._portal,
            lambda: self._workflows.stream(
                name, payload, key=key, max_retries=max_retries, initial_retry_ms=initial_retry_ms
            ),
        )

    def connect(self, name: str) -> SyncWorkflowSocket:
        """Return a WebSocket for one run."""
        return SyncWorkflowSocket(self._portal, self._workflows.connect(name))


class SyncRuns:
    """`client.runs`; see `AsyncClient`'s."""

    def __init__(self, portal: Portal[AsyncClient], runs: Runs) -> None:
        self._portal = portal
        self._runs = runs

    def get(self, run_id: str) -> RunRecord:
        """Return a run's record."""
        return self._portal.call(lambda: self._runs.get(run_id))

    def events(
        self,
        run_id: str,
        *,
        after: int | None = None,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return a page of a run's events."""
        return self._portal.call(lambda: self._runs.events(run_id, after=after, types=types, limit=limit))

    def stream(
        self, run_id: str, *, last_event_id: str | None = None, max_retries: int = 3, initial_retry_ms: int = 250
    ) -> Iterator[Event]:
        """Yield a run's events until `run_end`."""
        return _iterate(
            self._portal,
            lambda: self._runs.stream(
                run_id, last_event_id=last_event_id, max_retries=max_retries, initial_retry_ms=initial_retry_ms
            ),
        )

    def abort(self, run_id: str, *, reason: str | None = None) -> RunRecord:
        """End a run."""
        return self._portal.call(lambda: self._runs.abort(run_id, reason=reason))

    def send_event(self, run_id: str, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Give a run the event that it waits for."""
        self._portal.call(lambda: self._runs.send_event(run_id, name, payload, key=key))


class SyncAdmin:
    """`client.admin`: `agents` and `runs`."""

    def __init__(self, portal: Portal[AsyncClient], admin: Admin) -> None:
        self.agents = SyncAdminAgents(portal, admin.agents)
        self.runs = SyncAdminRuns(portal, admin.runs)


class SyncAdminAgents:
    """`client.admin.agents`; see `AsyncClient`'s."""

    def __init__(self, portal: Portal[AsyncClient], agents: AdminAgents) -> None:
        self._portal = portal
        self._agents = agents

    def list(self) -> list[AgentInfo]:
        """Return all agents."""
        return self._portal.call(self._agents.list)


class SyncAdminRuns:
    """`client.admin.runs`; see `AsyncClient`'s."""

    def __init__(self, portal: Portal[AsyncClient], runs: AdminRuns) -> None:
        self._portal = portal
        self._runs = runs

    def list(
        self,
        *,
        status: Literal["active", "completed", "errored"] | None = None,
        workflow_name: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first."""
        return self._portal.call(
            lambda: self._runs.list(status=status, workflow_name=workflow_name, cursor=cursor, limit=limit)
        )

    def get(self, run_id: str) -> RunRecord:
        """Return a run's record."""
        return self._portal.call(lambda: self._runs.get(run_id))


class _SyncSocket:
    """What both sockets share."""

    def __init__(self, portal: Portal[AsyncClient], socket: Socket) -> None:
        self._portal = portal
        self._base = socket

    def ready(self) -> None:
        """Wait until the server has greeted."""
        self._portal.call(self._base.ready)

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(event, request)` for each event, in the background thread; returns what ends that."""
        return self._base.on_event(listener)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        self._portal.call(lambda: self._base.close(code, reason))

    def __enter__(self) -> Self:
        self.ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SyncAgentSocket(_SyncSocket):
    """See `AgentSocket`."""

    def __init__(self, portal: Portal[AsyncClient], socket: AgentSocket) -> None:
        super().__init__(portal, socket)
        self._socket = socket

    def prompt(
        self, message: str, *, session: str | None = None, busy: Literal["queue", "reject"] = "queue"
    ) -> Invocation:
        """Send a message and return the answer."""
        return self._portal.call(lambda: self._socket.prompt(message, session=session, busy=busy))

    def ping(self) -> None:
        """Wait until the server has answered."""
        self._portal.call(self._socket.ping)


class SyncWorkflowSocket(_SyncSocket):
    """See `WorkflowSocket`."""

    def __init__(self, portal: Portal[AsyncClient], socket: WorkflowSocket) -> None:
        super().__init__(portal, socket)
        self._socket = socket

    def invoke(self, payload: Any = None) -> Invocation:
        """Run the workflow and return its result."""
        return self._portal.call(lambda: self._socket.invoke(payload))


_END = object()


def _iterate(portal: Portal[AsyncClient], start: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    events = start()
    try:
        while (event := portal.call(lambda: anext(events, _END))) is not _END:
            yield event  # type: ignore[misc]
    finally:
        portal.call(events.aclose)
