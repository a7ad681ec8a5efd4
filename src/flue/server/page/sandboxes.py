"""A look into a sandbox: a directory's names, or a file's text."""

from __future__ import annotations

import asyncio

from flue.errors import SandboxError, UsageError
from flue.harness.env import SessionEnv
from flue.messages import Json
from flue.ports import FileStat
from flue.server.problems import Problem, invalid_request, shortened

MAX_NAMES = 1000
MAX_BYTES = 512 * 1024
_PATIENCE_SECONDS = 5.0


async def look(env: SessionEnv, path: str) -> Json:
    """Return what is at a path: of a directory the first 1000 names, of a file its text up to 512 KB.

    Raises `Problem`: `file_not_found`, `sandbox_busy` when it does not answer within 5 s, `sandbox_failed`.
    """
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await _look(env, env.resolve_path(path))
    except FileNotFoundError:
        raise Problem(404, "file_not_found", f"There is no {shortened(path)} in the sandbox.") from None
    except UsageError as error:
        raise invalid_request(error.message) from error
    except TimeoutError:
        raise Problem(503, "sandbox_busy", "The sandbox is busy.", "A command is running; try again.") from None
    except (OSError, SandboxError) as error:
        # It may have ended with its prompt, just now.
        raise Problem(409, "sandbox_failed", "The sandbox cannot be read.", shortened(str(error), 500)) from error


async def _look(env: SessionEnv, path: str) -> Json:
    found: Json = {"alive": True, "path": path, "cwd": env.cwd}
    stat = await env.stat(path)
    if stat.is_directory:
        names = await env.readdir(path)
        entries = [await _entry(env, path, name) for name in names[:MAX_NAMES]]
        return {**found, "entries": entries, "more": len(names) > MAX_NAMES}
    found["size"] = stat.size
    if stat.size > MAX_BYTES:
        return {**found, "text": None, "why": f"It is larger than {MAX_BYTES // 1024} KB."}
    try:
        text = (await env.read_file_buffer(path)).decode()
    except UnicodeDecodeError:
        return {**found, "text": None, "why": "It is not text."}
    except IsADirectoryError:  # behind a link
        return {**found, "text": None, "why": "It leads to a directory."}
    return {**found, "text": text}


async def _entry(env: SessionEnv, directory: str, name: str) -> Json:
    try:
        stat = await env.stat(f"{directory}/{name}")
    except OSError:  # gone meanwhile
        return {"name": name, "kind": "other", "size": 0}
    return {"name": name, "kind": _kind(stat), "size": stat.size}


def _kind(stat: FileStat) -> str:
    if stat.is_symbolic_link:
        return "link"
    return "directory" if stat.is_directory else "file"
