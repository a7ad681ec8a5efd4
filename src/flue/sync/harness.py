"""A harness and its sessions, for code that blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flue.definitions.budget import Budget
from flue.harness.harness import Harness
from flue.harness.session import Session
from flue.ports import ExecResult
from flue.sync.files import SyncFs
from flue.sync.portal import Portal, Running
from flue.sync.session import SyncSession


class SyncHarness:
    """An agent at work. Its sessions share one sandbox and may run at the same time, in several threads.

    Get one from `ctx.init(agent)`.
    """

    def __init__(self, portal: Portal[Any], harness: Harness) -> None:
        self.id = harness.id
        self.name = harness.name
        self.fs = SyncFs(portal, harness.fs)
        self.sessions = SyncSessions(portal, harness, self)
        self._portal = portal
        self._harness = harness
        self._running = Running()

    def session(
        self,
        name: str = "default",
        *,
        role: str | None = None,
        budget: Budget | Mapping[str, float] | None = None,
    ) -> SyncSession:
        """Return the session of that name, a new one where there is none; see `flue.Harness.session`."""
        return self.sessions.face(self._portal.call(lambda: self._harness.session(name, role=role, budget=budget)))

    def shell(
        self,
        command: str,
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command in the sandbox; no conversation knows of it. A non-zero exit code is a result."""
        return self._portal.call(
            lambda: self._harness.shell(command, stdin=stdin, env=env, cwd=cwd, timeout=timeout), self._running
        )

    def abort(self, reason: object = None) -> None:
        """End the commands of `shell`, from another thread: the calls there raise `AbortError` with `reason`."""

        async def abort() -> None:
            self._running.abort(reason)

        self._portal.call(abort)


class SyncSessions:
    """The sessions of a harness."""

    def __init__(self, portal: Portal[Any], harness: Harness, owner: SyncHarness) -> None:
        self._portal = portal
        self._sessions = harness.sessions
        self._owner = owner
        self._faces: dict[Session, SyncSession] = {}

    def open(self, name: str = "default") -> SyncSession:
        """Return the session, creating it where there is none."""
        return self.face(self._portal.call(lambda: self._sessions.open(name)))

    def get(self, name: str = "default") -> SyncSession:
        """Return an existing session. Raises `SessionError` (code `session_not_found`)."""
        return self.face(self._portal.call(lambda: self._sessions.get(name)))

    def create(self, name: str = "default") -> SyncSession:
        """Return a new session. Raises `SessionError` (code `session_exists`) when there is one of that name."""
        return self.face(self._portal.call(lambda: self._sessions.create(name)))

    def delete(self, name: str = "default") -> None:
        """Delete a session and the sessions of its tasks, ending what runs there; a missing one is fine."""
        self._portal.call(lambda: self._sessions.delete(name))

    def face(self, session: Session) -> SyncSession:
        """Return the blocking face of a session, the same one every time."""
        known = self._faces.get(session)
        return known or self._faces.setdefault(session, SyncSession(self._portal, session, self._owner))
