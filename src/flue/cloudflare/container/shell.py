"""Scripts in a container of `@cloudflare/sandbox`, through the methods of its Durable Object.

Since version 0.12 commands can run outside the default session, each in a process of its own; this is what
`getSandbox(…, { enableDefaultSession: false })` does. Before, there was the session alone: one bash for all, where
`exit` ends everybody's shell and a command in the foreground keeps the others waiting. There, what may take long runs
as a stream, which the session keeps in its background, and what it printed comes line by line.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from flue.cloudflare.container.failures import told
from flue.cloudflare.container.stub import ObjectStub, StubError
from flue.sandboxes.remote_shell import encoded
from flue.sse import EventParser

# What getSandbox passes in the place of a session's id (0.12.10, shared/internal).
_NO_SESSION = "__DISABLE_SESSION__"


class ContainerShell:
    """Implements `RemoteShell`. `title` is the container as messages name it."""

    def __init__(self, stub: ObjectStub, title: str) -> None:
        self._stub = stub
        self._title = title
        self._sessions_only = False

    @property
    def title(self) -> str:
        """Return the container as messages name it."""
        return self._title

    async def run(self, script: str, *, env: Mapping[str, str] | None = None, brief: bool = True) -> str:
        """Run a script and return what it wrote to stdout (SBX-16)."""
        options = {} if env is None else {"env": dict(env)}
        with told(self._title):
            if not self._sessions_only:
                try:
                    # The default directory need not exist.
                    return await self._printed("execWithSessionToken", script, _NO_SESSION, {"cwd": "/", **options})
                except StubError as error:
                    if not error.no_such_method:
                        raise
                    self._sessions_only = True
            # One line: a session puts commands among lines of its own.
            line = f'bash -c "$(printf %s {encoded(script.encode())} | base64 -d)"'
            return await (self._printed("exec", line, options) if brief else self._streamed(line, options))

    async def download(self, path: str) -> bytes:
        """Return a regular file."""
        with told(self._title):
            found = await self._stub.call("readFile", path, self._file_options())
        return base64.b64decode(found["content"])

    async def upload(self, path: str, content: bytes) -> None:
        """Write a file whose directory exists."""
        with told(self._title):
            await self._stub.call("writeFile", path, encoded(content), self._file_options())

    async def _printed(self, method: str, *arguments: Any) -> str:
        result = await self._stub.call(method, *arguments)
        return str(result["stdout"])

    async def _streamed(self, command: str, options: Mapping[str, Any]) -> str:
        parser, printed = EventParser(), []
        async with aclosing(self._stub.stream("execStream", command, options)) as chunks:
            async for chunk in chunks:
                for _, data, _ in parser.feed(chunk):
                    event = json.loads(data)
                    match event.get("type"):
                        case "stdout":
                            printed.append(event.get("data") or "")
                        case "error":
                            raise StubError("Error", str(event.get("error") or event.get("data") or "unknown"))
                        case "complete":
                            return "".join(printed)
        raise StubError("Error", "Stream ended without completion event")

    def _file_options(self) -> dict[str, str]:
        return {"encoding": "base64"} | ({} if self._sessions_only else {"sessionId": _NO_SESSION})
