"""Commands that bashkit lacks, or has in a way that does not serve an agent."""

from __future__ import annotations

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable, Callable

    from bashkit import BuiltinContext, BuiltinResult, FileSystem

FOLDER = "/usr/local/bin"
# One line of bash each. Scripts, unlike commands written in Python, pass on bytes that are not text.
_SCRIPTS = {"zcat": '#!/bin/bash\nexec gunzip -c "$@"\n'}

_DURATION = r"([0-9]+\.?[0-9]*|\.[0-9]+)([smhd]?)"
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_POLL = 0.02


def scripts_folder() -> FileSystem:
    """Return the commands that are scripts, to be mounted at FOLDER."""
    from bashkit import FileSystem

    files = FileSystem()
    for name, script in _SCRIPTS.items():
        files.write_file(f"/{name}", script.encode())
        files.chmod(f"/{name}", 0o755)
    return files


def make_sleep(cancelled: threading.Event) -> Callable[[BuiltinContext], Awaitable[BuiltinResult]]:
    """Return a `sleep` that ends when `cancelled` is set: bashkit's own (0.20.1) would sleep on in its thread.

    In a worker, which can be killed, bashkit's own serves.
    """
    import asyncio
    import time

    async def sleep(context: BuiltinContext) -> BuiltinResult:
        seconds, refusal = _seconds_of(context)
        if refusal is not None:
            return refusal
        end = time.monotonic() + seconds
        # The event is set from another thread, and each command has an event loop of its own: looking is simplest.
        while not cancelled.is_set() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(_POLL, left))
        return _done()

    return sleep


def make_skip(skip: Callable[[float], None]) -> Callable[[BuiltinContext], BuiltinResult]:
    """Return a `sleep` that does not wait, but tells `skip` how long it would have."""

    def sleep(context: BuiltinContext) -> BuiltinResult:
        seconds, refusal = _seconds_of(context)
        if refusal is not None:
            return refusal
        skip(seconds)
        return _done()

    return sleep


def _seconds_of(context: BuiltinContext) -> tuple[float, BuiltinResult | None]:
    import re

    if not context.argv:
        return 0.0, _done("sleep: missing operand\n")
    seconds = 0.0
    for text in context.argv:
        match = re.fullmatch(_DURATION, text)
        if match is None:
            return 0.0, _done(f"sleep: invalid time interval '{text}'\n")
        seconds += float(match[1]) * _SECONDS[match[2]]
    return seconds, None


def _done(complaint: str = "") -> BuiltinResult:
    from bashkit import BuiltinResult

    return BuiltinResult(stderr=complaint, exit_code=1 if complaint else 0)
