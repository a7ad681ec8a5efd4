"""What code that runs on Cloudflare can ask of the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from flue.errors import UsageError


class Environment(Mapping[str, Any]):
    """The Worker's environment: variables and secrets are text, bindings are the SDK's objects.

    `env["NOTES"]` and `env.NOTES` are the same. It does not show what it holds.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        # Before it has been filled, a copy asks for what it is made of.
        values: Mapping[str, Any] = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(f"The environment has no {name!r}; there are: {', '.join(sorted(values)) or 'none'}.")
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Environment: {', '.join(sorted(self._values)) or 'empty'}>"


@dataclass(frozen=True, slots=True)
class DurableObjectIdentity:
    """Which Durable Object code runs in.

    `name` is the agent's instance id, or the id of the first run of a workflow's chain; `id` is the platform's.
    """

    binding_name: str
    class_name: str
    name: str
    id: str


@dataclass(frozen=True, slots=True)
class CloudflareContext:
    """The platform, as the code that runs sees it.

    `env` is the Worker's environment. In an agent or a workflow `storage` is the object's own (`storage.sql`; tables
    whose names begin with `flue_` are Flue's), `durable_object_identity` says which object it is, and `agent_instance`
    is the object itself; in the Worker, as in app.py, they are None. `wait_until` takes a coroutine or a task that may
    go on when the request at hand has been answered.
    """

    env: Environment
    wait_until: Callable[[Awaitable[Any]], Any]
    storage: Any = None
    durable_object_identity: DurableObjectIdentity | None = None
    agent_instance: Any = None


_current: ContextVar[CloudflareContext | None] = ContextVar("flue_cloudflare", default=None)


def get_cloudflare_context() -> CloudflareContext:
    """Return the platform, for code of a project that runs on Cloudflare.

    Works in agents, tools, workflows, middleware, app.py's routes and the handlers of cloudflare.py, and in what these
    start. Raises `UsageError` (`needs_cloudflare`) everywhere else.
    """
    context = _current.get()
    if context is None:
        raise UsageError(
            "get_cloudflare_context() works on Cloudflare only, while a request or an agent's work is under way.",
            code="needs_cloudflare",
            hint="Call it inside a function, not while a module is imported; elsewhere use ctx.env.",
        )
    return context


@contextmanager
def using_cloudflare(context: CloudflareContext) -> Iterator[None]:
    """Give the block a platform."""
    token = _current.set(context)
    try:
        yield
    finally:
        # A generator that is left behind may be closed anywhere.
        with suppress(ValueError):
            _current.reset(token)
