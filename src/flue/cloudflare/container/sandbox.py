"""`get_sandbox()`: a container of `@cloudflare/sandbox` as an agent's sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from flue.cloudflare.container.failures import told
from flue.cloudflare.container.shell import ContainerShell
from flue.cloudflare.container.stub import NativeStub, ObjectStub
from flue.errors import DefinitionError
from flue.harness.env import SessionEnv
from flue.sandboxes.remote_sandbox import CONTAINER, open_remote

DEFAULT_CWD = "/workspace"
"""The working directory that Cloudflare's images have."""
# Ids become part of host names when a port is exposed (sanitizeSandboxId of @cloudflare/sandbox 0.12.10).
_LONGEST_ID = 63
_RESERVED_IDS = frozenset({"www", "api", "admin", "root", "system", "cloudflare", "workers"})


def get_sandbox(
    binding: Any,
    id: str,
    *,
    cwd: str = DEFAULT_CWD,
    normalize_id: bool = False,
    sleep_after: str | int | None = None,
    keep_alive: bool | None = None,
    container_timeouts: Mapping[str, int] | None = None,
    transport: Literal["http", "websocket", "rpc"] | None = None,
    labels: Mapping[str, str] | None = None,
) -> ContainerSandbox:
    """Return the container named `id` for an agent's `sandbox=`. It starts with the first thing that is asked of it.

    `binding` is `env.<name>`, the Durable Object namespace that the Wrangler file binds to a class of
    `@cloudflare/sandbox`. The same id is the same container, for every agent. It has 1 to 63 characters, none of them a
    hyphen at either end, and is no reserved name; with `normalize_id` it is taken in lower case, which host names of
    exposed ports need.

    `cwd` is where commands start. The other options are kept by the container's object until they are set again:
    `sleep_after` is how long it runs without being used ("10m" if never set; a number is seconds), `keep_alive` lets it
    run until it is destroyed, `container_timeouts` has the package's names (`instanceGetTimeoutMS`,
    `portReadyTimeoutMS`, `waitIntervalMS`), `transport` is how the object speaks with the container, `labels` show up
    in logs.

    Raises `DefinitionError` for an impossible id (code `invalid_sandbox_id`) and a missing binding.
    """
    name = _checked_id(id, normalize=normalize_id)
    options = {
        "sandboxName": {"name": name, "normalizeId": normalize_id},
        "sleepAfter": sleep_after,
        "keepAlive": keep_alive,
        "containerTimeouts": None if container_timeouts is None else dict(container_timeouts),
        "transport": transport,
        "labels": None if labels is None else dict(labels),
    }
    given = {key: value for key, value in options.items() if value is not None}
    return ContainerSandbox(_stub_of(binding, name), f'Container "{name}"', cwd, given)


class ContainerSandbox:
    """A container, as an agent's `sandbox`. Built by `get_sandbox()`.

    Nothing here creates or destroys it: it is the platform's, and outlives every agent that uses it.
    """

    def __init__(self, stub: ObjectStub, title: str, cwd: str, options: Mapping[str, Any]) -> None:
        self._stub = stub
        self._title = title
        self._cwd = cwd
        self._options = options

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment, once the container runs.

        When it has started anew since it was last opened for `id`, its sandbox is `ephemeral`: what the conversation
        knows of files is then no longer true, and the model is told.

        Raises `SandboxError`: `missing_directory` when its working directory is none, others as `docs/troubleshooting`
        lists them when it cannot be started.
        """
        if self._options:
            await self.call("configure", dict(self._options))
        return await open_remote(ContainerShell(self._stub, self._title), CONTAINER, id=id, cwd=self._cwd)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the container's object, for what agents have no tool for.

        For example `await box.call("exposePort", 8080, {"hostname": "example.com"})` or `await box.call("destroy")`.
        Names, arguments and results are those of `@cloudflare/sandbox`, as plain Python. Raises `SandboxError`.
        """
        with told(self._title):
            return await self._stub.call(method, *arguments)

    def __repr__(self) -> str:
        return f"<{self._title}>"


def adapt_stub(value: Any) -> ContainerSandbox | None:
    """Return the container whose stub an agent names as its sandbox, None for anything else."""
    from flue.cloudflare.platform import js_rpc

    if not js_rpc.is_object_stub(value):
        return None
    return ContainerSandbox(NativeStub(lambda: value), "The agent's container", DEFAULT_CWD, {})


def _checked_id(id: object, *, normalize: bool) -> str:
    if not isinstance(id, str) or not 0 < len(id) <= _LONGEST_ID:
        problem = f"has 1 to {_LONGEST_ID} characters"
    elif id.startswith("-") or id.endswith("-"):
        problem = "has no hyphen at its beginning or end"
    elif id.lower() in _RESERVED_IDS:
        problem = f"is none of {', '.join(sorted(_RESERVED_IDS))}"
    else:
        return id.lower() if normalize else id
    raise DefinitionError(
        f"get_sandbox(): {id!r} cannot name a container: an id {problem}.",
        code="invalid_sandbox_id",
        hint="Make one from what you have, for example by hashing it.",
    )


def _stub_of(binding: Any, name: str) -> ObjectStub:
    if not hasattr(binding, "idFromName"):
        raise DefinitionError(
            f"get_sandbox(): the binding for {name!r} is {type(binding).__name__}, no Durable Object namespace.",
            hint='Pass env["<name>"], where the Wrangler file binds <name> to a class that ends in Sandbox.',
        )
    return NativeStub(lambda: binding.get(binding.idFromName(name)))
