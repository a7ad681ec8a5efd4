"""Serves hello world over the stand-in, in an interpreter of its own; prints what that loads of what it must not load.

    python hello_program.py FOLDER NAME …

The names are of modules; a line is the name of one, or of one inside it, and of the module that imports it. What the
stand-in itself has loaded of them is forgotten before the Worker begins.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.cloudflare.standin.owners import owned_loop
from tests.cloudflare.standin.web import Request, Response
from tests.cloudflare.standin.workers import installed
from tests.cloudflare.standin.world import World

HELLO = b"""
route = True

async def run(ctx):
    return {"hello": ctx.payload["name"]}
"""
CHAT = b"""
import flue

route = websocket = True
agent = flue.create_agent(model="anthropic/claude-haiku-4-5")
"""


class Watch:
    """Finds no module, and writes down who asks for which."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.seen: list[str] = []

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> None:
        """Take note of an import."""
        if self.concerns(name):
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_globals["__name__"].startswith("importlib"):
                frame = frame.f_back
            self.seen.append(f"{name} {frame.f_globals['__name__']}")

    def concerns(self, name: str) -> bool:
        """Say whether a module is one of those that are watched."""
        return any(name == watched or name.startswith(f"{watched}.") for watched in self.names)


asked: list[str] = []


async def refuse(request: Request) -> Response:
    """Be a provider that refuses."""
    asked.append(request.url)
    return Response(None, status=400)


async def serve(folder: Path) -> None:
    """Answer a run and a prompt."""
    from flue.host import SystemClock

    world = World(SystemClock(), variables={"ANTHROPIC_API_KEY": "key"})
    world.internet = refuse
    with owned_loop(asyncio.get_running_loop()), installed(world):
        from flue.cloudflare import worker as made
        from flue.cloudflare.bundle import Bundle
        from flue.cloudflare.isolate import Platform

        files = {".flue/workflows/hello.py": HELLO, ".flue/agents/chat.py": CHAT}
        bundle = Bundle(files, agents=("chat",), workflows=("hello",), project="hello", version="v1")
        worker = made.worker(bundle, Platform(store=made._store, models=made._models, folder=folder))
        classes = {"Chat": worker.agent("chat"), "HelloWorkflow": worker.workflow("hello"), "Registry": worker.registry}
        names = {"Chat": "Chat", "FLUE_WORKFLOW_HELLO": "HelloWorkflow", "FLUE_REGISTRY": "Registry"}
        world.deploy(default=worker.default, classes=classes, bindings=names)
        answer = await world.call("POST", "/workflows/hello?wait=result", json={"name": "Ada"})
        assert answer.json["result"] == {"hello": "Ada"}, answer
        answer = await world.call("POST", "/agents/chat/ann", json={"message": "Hello"})
        assert (answer.status, len(asked)) == (500, 1), answer
        await world.aclose()


if __name__ == "__main__":
    watch = Watch(sys.argv[2:])
    for name in [name for name in sys.modules if watch.concerns(name)]:
        del sys.modules[name]
    sys.meta_path.insert(0, watch)
    asyncio.run(serve(Path(sys.argv[1])))
    print(*watch.seen, sep="\n")  # noqa: T201
