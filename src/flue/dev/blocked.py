"""Says which line of the project keeps the event loop from going on: everything else in the process waits for it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType

AFTER = 1.0  # seconds in which nothing could go on
EVERY = 0.5  # seconds between looks


@contextmanager
def watching_the_loop(root: Path, say: Callable[[str], None], *, after: float = AFTER) -> Iterator[None]:
    """Watch the running event loop during the block, from a thread; name each function below `root` once."""
    watch = _Watch(asyncio.get_running_loop(), threading.get_ident(), root, say, after)
    threading.Thread(target=watch.run, name="flue loop watch", daemon=True).start()
    try:
        yield
    finally:
        watch.end.set()


class _Watch:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread: int, root: Path, say: Callable[[str], None], after: float
    ) -> None:
        self.end = threading.Event()
        self._loop = loop
        self._thread = thread
        self._root = root
        self._say = say
        self._after = after
        self._said: set[CodeType] = set()

    def run(self) -> None:
        while not self.end.wait(min(EVERY, self._after)):
            had_turn = threading.Event()
            with suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(had_turn.set)
            if had_turn.wait(self._after) or had_turn.wait(0.1):  # a machine that slept has woken both of us
                continue
            self._tell(sys._current_frames().get(self._thread))
            while not had_turn.wait(EVERY) and not self.end.is_set():
                pass

    def _tell(self, frame: FrameType | None) -> None:
        while frame is not None and not self._is_ours(frame.f_code):
            frame = frame.f_back
        if frame is None or frame.f_code in self._said:
            return
        self._said.add(frame.f_code)
        code = frame.f_code
        self._say(
            f"{Path(code.co_filename).relative_to(self._root)}:{frame.f_lineno}, in {code.co_name}: for "
            f"{self._after:g} s nothing else in the process could go on. What blocks belongs into a tool written as "
            "`def`, or into `await asyncio.to_thread(…)`."
        )

    def _is_ours(self, code: CodeType) -> bool:
        path = Path(code.co_filename)
        return path.is_relative_to(self._root) and "site-packages" not in path.parts
