"""For whom code runs: one event of the Worker, or one life of an object; and what each of them may touch.

The platform calls this an I/O context. What it opened for one (a stream, a socket, storage) cannot be used while code
runs for another: "Cannot perform I/O on behalf of a different request". Python does not know that: a task that waits
for a future goes on in the callback of whoever resolves it, so that two requests that share a lock or a future run into
each other. The stand-in copies it: a callback runs for whom it was scheduled by, and what is touched is checked.

A JavaScript promise is different: what waits for it goes on for whom it was waiting.

When an event or a life is over, nothing of it runs any more, not even what cleans up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from flue.ports import Clock
from tests.cloudflare.standin.js_values import JsError
from tests.cloudflare.standin.storage import Evicted

_owner: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("standin_owner", default=None)


class _Now:
    owner: Owner | None = None
    over: ClassVar[list[Owner]] = []
    wrong: asyncio.Future[None] | None = None


class Owner:
    """What tasks run for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: set[asyncio.Task[Any]] = set()
        self.at_end: list[Callable[[], None]] = []
        """What breaks off with it."""
        self.over = False
        self.missed: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something for it, and nothing else's."""
        context = contextvars.Context()
        context.run(_owner.set, self)
        with running_for(None if self is _NOBODY else self):
            return asyncio.get_running_loop().create_task(work, context=context)

    def touch(self, what: object) -> None:
        """Use what it has opened. Raises when code runs for another; tests may touch everything."""
        if _Now.owner is not None and _Now.owner is not self:
            message = (
                f"Cannot perform I/O on behalf of a different request: {type(what).__name__} of {self} is used in"
                f" {_Now.owner}."
            )
            with running_for(None):
                if _Now.wrong is not None and not _Now.wrong.done():
                    _Now.wrong.set_exception(AssertionError(message))
            raise JsError(message)

    def end(self) -> None:
        """Let nothing of it run any more, and break off what it has opened."""
        self.over = True
        for break_off in self.at_end:
            break_off()
        _Now.over.append(self)


_NOBODY = Owner("nobody")


async def bury() -> None:
    """End the tasks of all that is over, as an event loop wants it in the end."""
    tasks = []
    for owner in _Now.over:
        owner.over = False
        tasks += [task for task in owner.tasks if task.cancel()]
        for callback in owner.missed:
            asyncio.get_running_loop().call_soon(callback)
    _Now.over.clear()
    if tasks:
        await asyncio.wait(tasks)


def current_owner() -> Owner | None:
    """Return whom code runs for, None for a test."""
    return _Now.owner


@contextmanager
def running_for(owner: Owner | None) -> Iterator[None]:
    """Run the block for somebody."""
    before, _Now.owner = _Now.owner, owner
    try:
        yield
    finally:
        _Now.owner = before


class OwnClock:
    """A clock whose sleepers go on for whom they slept, as a timer's callback does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stopped = False
        """Whether nobody sleeps any more: what still cleans up must not wait."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self._clock.now_ms()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await on_behalf(asyncio.sleep(0) if self.stopped else self._clock.sleep(seconds))


async def on_behalf(work: Any) -> Any:
    """Await something that whoever may resolve, and go on for whom this was called."""
    owner = _Now.owner
    task = _NOBODY.start(work) if asyncio.iscoroutine(work) else asyncio.ensure_future(work)
    resumed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resume(_: Any) -> None:
        with running_for(owner):
            if not resumed.done():
                resumed.set_result(None)

    task.add_done_callback(resume)
    try:
        await resumed
    except asyncio.CancelledError:
        task.cancel()
        raise
    return task.result()


async def unless_wrong(task: asyncio.Future[Any]) -> Any:
    """Await something for a test, which fails as soon as code touches what is not its own: it may try for ever."""
    wrong = _Now.wrong
    assert wrong is not None, "the loop is not owned"
    done, _ = await asyncio.wait({task, wrong}, return_when=asyncio.FIRST_COMPLETED)
    return await (task if task in done else wrong)


def own_tasks(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task, as an event loop's factory of tasks: it belongs to whoever starts it."""
    owner, context = _owner.get(), options.get("context")
    if context is not None:
        owner = context.run(_owner.get) or owner
        context.run(_owner.set, owner)
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)
        task.add_done_callback(_forgive)
    return task


def _forgive(task: asyncio.Task[Any]) -> None:
    """Have nobody complain of what an isolate that is gone could not do."""
    if not task.cancelled() and isinstance(task._exception, Evicted):
        task.exception()


def kept(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a function for whom it is scheduled by now."""
    owner = _Now.owner

    def run(*arguments: Any) -> None:
        if owner is not None and owner.over:
            owner.missed.append(lambda: callback(*arguments))
            return
        with running_for(owner):
            callback(*arguments)

    return run


@contextmanager
def owned_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have a loop's callbacks run for whom they were scheduled by, and its tasks belong to who started them."""
    factory = loop.get_task_factory()
    call_soon, call_at = loop.call_soon, loop.call_at

    loop.call_soon = lambda callback, *args, **more: call_soon(kept(callback), *args, **more)  # type: ignore[method-assign]
    loop.call_at = lambda when, callback, *args, **more: call_at(when, kept(callback), *args, **more)  # type: ignore[method-assign]
    loop.set_task_factory(own_tasks)
    _Now.wrong = loop.create_future()
    _Now.wrong.add_done_callback(lambda wrong: wrong.cancelled() or wrong.exception())
    try:
        yield
    finally:
        _Now.wrong = None
        loop.set_task_factory(factory)
        del loop.call_soon, loop.call_at
        # Replaced by what a Worker does to its loop.
        vars(loop).pop("call_later", None)
