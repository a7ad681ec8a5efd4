"""`flue init`: a configuration, and a first workflow and agent where the project has none."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from flue.errors import ConfigError
from flue.project.config import find_config, parse_target
from flue.project.layout import Layout, find_layout

_CONFIG = """# Flue's configuration. Paths are relative to this file.
target = "{target}"  # "server" or "cloudflare"
# root = "."
# output = "dist"
"""

_WORKFLOW = '''"""A workflow runs once, from payload to result: flue run hello --payload '{"name": "Ada"}'"""

from pydantic import BaseModel

from flue import FlueContext, create_agent

# demo/librarian is an offline stand-in that needs no key: it only searches its workspace and quotes what it finds.
# For a real model, write for example "anthropic/claude-sonnet-4-6" and put ANTHROPIC_API_KEY=... into .env.
greeter = create_agent(model="demo/librarian", instructions="Be brief and friendly.")

route = True  # open over HTTP (flue dev): POST /workflows/hello?wait=result


class Greeting(BaseModel):
    greeting: str


async def run(ctx: FlueContext) -> Greeting:
    harness = await ctx.init(greeter)
    session = await harness.session()
    name = ctx.payload.get("name", "World")
    reply = await session.prompt(f'Say "Hello, {name}!"', result=Greeting)
    return reply.data
'''

_AGENT = '''"""An agent remembers its conversations, one for each id: flue connect assistant my-first-chat"""

from flue import create_agent
from flue.sandboxes import virtual

FILES = {"library.md": "# Library\\n\\nThe library is open from 9 to 18 on weekdays, and closed on Sundays.\\n"}

# See workflows/hello.py for how to use a real model. Ask, for example: When is the library open?
agent = create_agent(
    model="demo/librarian",
    instructions="Answer from the files in your workspace.",
    sandbox=virtual(files=FILES),
)

route = True  # open over HTTP (flue dev): POST /agents/assistant/my-first-chat {"message": "…"}
'''


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--target", default="server", metavar="TARGET", help="server or cloudflare (default: server)")
    parser.add_argument("--root", default=".", metavar="DIR", help="project root (default: the working directory)")
    parser.add_argument("--force", action="store_true", help="replace an existing flue.toml")


def execute(args: argparse.Namespace) -> int:
    """Write the files and print the next step to stderr."""
    target = parse_target(args.target)
    root = Path(args.root).expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is not a directory.", code="invalid_root", hint="Pass a directory with --root.")
    _check_free(root, force=args.force)
    layout = _existing(root, target)
    written = {root / "flue.toml": _CONFIG.format(target=target)}
    if layout is None:
        written[root / ".flue/workflows/hello.py"] = _WORKFLOW
        written[root / ".flue/agents/assistant.py"] = _AGENT
    for path, text in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}.",
                code="cannot_write",
                hint="Make the directory writable, or choose another with --root.",
            ) from error
        print(f"[flue] Wrote {path.relative_to(root)}", file=sys.stderr)
    enter = "" if root == Path.cwd() else f"cd {shlex.quote(str(root))} && "
    print(f"[flue] Next: {enter}{_next_step(layout, target)}", file=sys.stderr)
    return 0


def _check_free(root: Path, *, force: bool) -> None:
    file = find_config(root)
    if file is None:
        return
    if file.name == "pyproject.toml":
        raise ConfigError(
            f"{file} has a [tool.flue] table already.",
            code="config_exists",
            hint="Edit it there, or remove the table and run `flue init` again.",
        )
    if not force:
        raise ConfigError(f"{file} exists already.", code="config_exists", hint="Pass --force to replace it.")


def _existing(root: Path, target: str) -> Layout | None:
    try:
        return find_layout(root, target=target)
    except ConfigError as error:
        if error.code in ("empty_project", "invalid_root"):
            return None
        raise


def _next_step(layout: Layout | None, target: str) -> str:
    if target == "cloudflare":
        return "flue dev"  # `flue run` and `flue connect` have no Worker
    if layout is None:
        return 'flue run hello --payload \'{"name": "Ada"}\''
    if layout.workflows:
        return f"flue run {next(iter(layout.workflows))}"
    return f"flue connect {next(iter(layout.agents))} my-first-chat"
