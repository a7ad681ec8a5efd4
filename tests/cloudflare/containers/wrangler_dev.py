"""A project's two Workers in `wrangler dev`: the second as a build writes it, in the first one's place a bridge.

What is real: Wrangler and workerd, the second Worker's configuration and entry as the build makes them,
`@cloudflare/sandbox` and `@cloudflare/containers`, the user's cloudflare.js, the binding by `script_name`, and calls
over it. What stands in: the Python Worker (`workers/bridge.js`), and `ctx.container` with what runs in the container
(`workers/containers.js`, `control_server.py`), for want of a Docker engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from flue.build.wrangler.environment import relocate
from flue.build.wrangler.jsonc import write_jsonc
from flue.build.wrangler.merge import Merged
from flue.cloudflare.container.stub import StubError
from tests.build.cloudflare.tools import QUIET, WRANGLER, node_for_wrangler

HERE = Path(__file__).parent / "workers"


class Bridge:
    """The first Worker, as a test reaches it."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def stub(self, binding: str, name: str) -> BridgeStub:
        """Return the object of a name."""
        return BridgeStub(self, binding, name)

    async def send(self, order: Mapping[str, Any]) -> httpx2.Response:
        """Send a call. One that is cancelled goes on, as it does in a Python Worker."""
        return await asyncio.shield(asyncio.ensure_future(self._post(order)))

    async def _post(self, order: Mapping[str, Any]) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=60, verify=False) as client:
            return await client.post(self.url, json=order)


class BridgeStub:
    """Implements `ObjectStub` over the bridge."""

    def __init__(self, bridge: Bridge, binding: str, name: str) -> None:
        self._bridge = bridge
        self._order = {"binding": binding, "name": name}

    async def call(self, method: str, *arguments: Any) -> Any:
        response = await self._bridge.send(self._order | {"method": method, "args": arguments})
        return _checked(response)["result"]

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        response = await self._bridge.send(self._order | {"method": method, "args": arguments})
        if response.status_code != 200:
            _checked(response)
        yield response.content


def _checked(response: httpx2.Response) -> Any:
    answer = response.json()
    if "error" in answer:
        raise StubError(answer["error"]["name"], answer["error"]["message"], answer["error"]["code"])
    return answer


def write_workers(root: Path, merged: Merged, files: Mapping[str, str]) -> None:
    """Write what a build writes of both Workers' configurations, with files beside them."""
    assert merged.sandboxes
    texts = {
        "dist/worker/wrangler.json": write_jsonc(relocate(merged.document, "../..")),
        "dist/sandboxes/wrangler.json": write_jsonc(relocate(merged.sandboxes.document, "../..")),
        "dist/sandboxes/sandboxes.js": merged.sandboxes.entry("../../cloudflare.js"),
        "Dockerfile": "FROM docker.io/cloudflare/sandbox:0.12.10\n",
        **files,
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def stand_in(root: Path, *, package: str = "@cloudflare/sandbox", containers_url: str | None = None) -> None:
    """Put a bridge into the first Worker's place, and stand in for containers in the second one of a build."""
    first = json.loads((root / "dist/worker/wrangler.json").read_text(encoding="utf-8"))
    bound = [found for found in first["durable_objects"]["bindings"] if "script_name" in found]
    bridge = {
        "name": first["name"],
        "main": str(HERE / "bridge.js"),
        "compatibility_date": first["compatibility_date"],
        "durable_objects": {"bindings": bound},
    }
    (root / "dist/bridge").mkdir()
    (root / "dist/bridge/wrangler.json").write_text(json.dumps(bridge), encoding="utf-8")
    config = root / "dist/sandboxes/wrangler.json"
    second = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(
        json.dumps(stand_in_for_containers(second, package=package, containers_url=containers_url)), encoding="utf-8"
    )


def stand_in_for_containers(
    config: dict[str, Any], *, package: str = "@cloudflare/sandbox", containers_url: str | None = None
) -> dict[str, Any]:
    """Return a configuration with what only tests have.

    `package` is the folder in node_modules that has the `@cloudflare/sandbox` to use. Without `containers_url` nothing
    stands in for containers.
    """
    modules = WRANGLER / "node_modules"
    alias = {
        "@cloudflare/sandbox": str(modules / package / "dist/index.js"),
        "@cloudflare/sandbox/bridge": str(modules / package / "dist/bridge/index.js"),
    }
    if containers_url is None:
        return {**config, "dev": {"enable_containers": False}, "alias": alias}
    alias["@cloudflare/containers"] = str(HERE / "containers.js")
    alias["original-containers"] = str(modules / "@cloudflare/containers/dist/index.js")
    variables = {**config.get("vars", {}), "CONTAINERS_URL": containers_url}
    return {**config, "dev": {"enable_containers": False}, "alias": alias, "vars": variables}


@contextmanager
def wrangler_dev(root: Path, *configs: str) -> Iterator[Bridge]:
    """Run `wrangler dev` until the block ends: over both configurations of a build, unless others are given."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = root / "dev.log"
    program = [node_for_wrangler(), str(WRANGLER / "node_modules/wrangler/wrangler-dist/cli.js"), "dev"]
    chosen = configs or ("dist/bridge/wrangler.json", "dist/sandboxes/wrangler.json")
    options = [
        *(part for config in chosen for part in ("-c", config)),
        "--ip",
        "127.0.0.1",
        "--port",
        str(port),
        "--show-interactive-dev-session=false",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*program, *options],
            cwd=root,
            env=QUIET | {"HOME": str(root / "home"), "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, log)
        yield Bridge(f"http://127.0.0.1:{port}/", log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while "Ready on" not in (printed := log.read_text(encoding="utf-8", errors="replace")):
        assert process.poll() is None, f"wrangler dev ended:\n{printed}"
        assert "ERROR" not in printed, f"wrangler dev cannot start:\n{printed}"
        assert time.monotonic() < deadline, f"wrangler dev does not become ready:\n{printed}"
        time.sleep(0.1)
