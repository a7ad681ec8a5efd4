"""`client.admin`: what is deployed and what ran. The server's admin app must be mounted."""

from __future__ import annotations

from typing import Literal, cast

from flue.sdk.records import AgentInfo, RunPage, RunPointer, RunRecord
from flue.sdk.requests import Requests
from flue.sdk.urls import path_of


class AdminAgents:
    """`client.admin.agents`."""

    def __init__(self, requests: Requests, base_path: str) -> None:
        self._requests = requests
        self._path = f"{base_path}/agents"

    async def list(self) -> list[AgentInfo]:
        """Return all agents, exposed or not."""
        answer = await self._requests.send("GET", self._path, from_origin=True)
        return cast("list[AgentInfo]", answer.field("items", list))


class AdminRuns:
    """`client.admin.runs`."""

    def __init__(self, requests: Requests, base_path: str) -> None:
        self._requests = requests
        self._path = f"{base_path}/runs"

    async def list(
        self,
        *,
        status: Literal["active", "completed", "errored"] | None = None,
        workflow_name: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first; `cursor` is that of the page before. The server's limit is 100."""
        query = {"status": status, "workflowName": workflow_name, "cursor": cursor, "limit": limit}
        answer = await self._requests.send("GET", self._path, query=query, from_origin=True)
        return RunPage(cast("list[RunPointer]", answer.field("items", list)), answer.body.get("nextCursor"))

    async def get(self, run_id: str) -> RunRecord:
        """Return a run's record."""
        answer = await self._requests.send("GET", self._path + path_of(run_id), from_origin=True)
        return cast("RunRecord", answer.body)


class Admin:
    """`client.admin`: `agents` and `runs`. Its path begins at the server's origin, whatever the base URL's path."""

    def __init__(self, requests: Requests, base_path: str) -> None:
        path = f"/{base_path.strip('/')}" if base_path.strip("/") else ""
        self.agents = AdminAgents(requests, path)
        self.runs = AdminRuns(requests, path)
