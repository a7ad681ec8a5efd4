"""`client.workflows`: run workflows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from flue.sdk.connections import Connect
from flue.sdk.errors import not_the_protocol
from flue.sdk.events import Event
from flue.sdk.records import Invocation
from flue.sdk.requests import Requests
from flue.sdk.runs import RUN_ID, Runs, key_header
from flue.sdk.sockets import WorkflowSocket
from flue.sdk.streams import Retry, follow
from flue.sdk.urls import path_of


class Workflows:
    """Workflows by name. A payload is any JSON value; None is an empty object."""

    def __init__(self, requests: Requests, runs: Runs, connect: Connect) -> None:
        self._requests = requests
        self._runs = runs
        self._connect = connect

    async def invoke(self, name: str, payload: Any = None, *, wait: bool = True, key: str | None = None) -> Invocation:
        """Run a workflow and return its result, with the run's id; with `wait=False` the id alone, at once.

        The same `key` with the same payload is accepted once. Raises `FlueApiError` when the server refuses or the run
        fails, `FlueTransportError` when there is no answer; a run that was accepted goes on then.
        """
        query = {"wait": "result"} if wait else {}
        answer = await self._requests.send(
            "POST", path_of("workflows", name), body=payload, query=query, headers=key_header(key)
        )
        return Invocation(answer.body.get("result"), answer.headers.get(RUN_ID))

    async def stream(
        self,
        name: str,
        payload: Any = None,
        *,
        key: str | None = None,
        max_retries: int = 3,
        initial_retry_ms: int = 250,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow and yield what happens until `run_end`, each event once; goes on as `client.runs.stream`."""
        failure = "Invocation stream failed with HTTP {status}."
        async with self._requests.stream(
            "POST", path_of("workflows", name), body=payload, headers=key_header(key), failure=failure
        ) as first:
            run_id = first.headers.get(RUN_ID)
            if run_id is None:
                raise not_the_protocol("The stream does not name its run.")
            retry = Retry(max_retries, initial_retry_ms)
            async with aclosing(follow(self._runs.log(run_id), retry, first=first)) as frames:
                async for frame in frames:
                    yield cast("Event", frame.event)

    def connect(self, name: str) -> WorkflowSocket:
        """Return a WebSocket for one run; `async with` or its first use opens it."""
        return WorkflowSocket(self._connect, name)
