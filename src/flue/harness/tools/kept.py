"""What a model is not shown, or not all of: kept as files in the sandbox, where it can look at them."""

from __future__ import annotations

import re

from flue.definitions.tool import ToolContext

OUTPUT_DIRECTORY = "/tmp/flue"  # noqa: S108 - inside the sandbox, where a call's output belongs.


class KeptOutput:
    """Keeps the output of one tool call in the sandbox that the call works with."""

    def __init__(self, context: ToolContext) -> None:
        self._env = context.sandbox
        self._name = re.sub(r"[^A-Za-z0-9_]+", "-", f"{context.session[:60]}-{context.tool_call_id[:80]}")
        self._files = 0

    async def keep(self, data: bytes, suffix: str) -> str | None:
        """Write a file and return its path; None where the sandbox does not take it."""
        self._files += 1
        number = f"-{self._files}" if self._files > 1 else ""
        path = f"{OUTPUT_DIRECTORY}/{self._name}{number}{suffix}"
        try:
            await self._env.write_file(path, data)
        except Exception:  # noqa: BLE001 - a sandbox may be read-only or gone; the rest is still worth telling.
            return None
        return path
