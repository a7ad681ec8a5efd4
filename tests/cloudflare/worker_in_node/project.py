"""The project that is built for the scenarios: each of its parts is there for one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.build.cloudflare.tools import ROOT, link_npm_packages
from tests.build.conftest import write_files


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def files(provider: str) -> dict[str, str]:
    """Return the project's files; its models are at the address `provider`."""
    return {
        "wrangler.jsonc": json.dumps({"ai": {"binding": "AI"}, "vars": {"AI_UPSTREAM": f"{provider}/v1"}}),
        ".flue/agents/thinker.py": """
            from flue import create_agent, tool

            @tool(description="Add two numbers.")
            def add(a: int, b: int) -> int:
                return a + b

            route = True
            agent = create_agent(model="cloudflare/@cf/openai/gpt-oss-120b", tools=[add])
        """,
        ".flue/provider.py": f"""
            from flue import register_provider

            register_provider("fake", api="anthropic-messages", base_url="{provider}", api_key="test-key")
            MODEL = "fake/any-model"
        """,
        ".flue/app.py": """
            import flue
            from starlette.applications import Starlette
            from starlette.routing import Mount, WebSocketRoute

            async def echo(socket):
                await socket.accept("echo")
                async for text in socket.iter_text():
                    await socket.send_bytes(text.encode())

            app = Starlette(routes=[WebSocketRoute("/echo", echo), Mount("/", flue.asgi())])
        """,
        ".flue/agents/clerk.py": """
            from flue import create_agent
            from provider import MODEL

            route = True
            websocket = True
            agent = create_agent(model=MODEL)
        """,
        ".flue/workflows/hello.py": """
            route = True

            async def run(ctx):
                ctx.log.info("greeting")
                return {"hello": ctx.payload["name"], "from": ctx.env["CITY"]}
        """,
        ".flue/workflows/report.py": """
            from flue import create_agent
            from provider import MODEL

            route = True
            reporter = create_agent(model=MODEL)

            async def run(ctx):
                session = await (await ctx.init(reporter)).session()
                lines = "".join(f"line {number}: {number % 7}\\n" for number in range(2_000))
                await session.fs.write_file("/workspace/data.txt", lines)
                found = await session.shell("grep ': 3' data.txt | awk '{print $2}' | sort -n | tail -n 1")
                reply = await session.prompt('[[call grep {"pattern": "line 7:"}]][[then]]')
                return {"shell": found.stdout.strip(), "grep": reply.text}
        """,
    }


def build(root: Path, provider: str) -> Any:
    """Write the project into a folder, build it for Cloudflare, and return what the build reports."""
    write_files(root, files(provider))
    link_npm_packages(root)
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLUE_")}
    env["FLUE_CACHE_DIR"] = str(ROOT / "build" / "cache")
    command = [sys.executable, "-m", "flue", "build", "--target", "cloudflare", "--json"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
