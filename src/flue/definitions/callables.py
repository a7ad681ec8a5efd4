"""What the application's functions are."""

from __future__ import annotations

import inspect


def is_async(value: object) -> bool:
    """Say whether it is called with `await`: an async function, or an object whose `__call__` is one."""
    call = value if inspect.isroutine(value) else getattr(value, "__call__", None)  # noqa: B004 - the bound method
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)
