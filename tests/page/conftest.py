"""The dev page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.page.scene import Scene
from tests.prerequisites import require

# No sandbox of its own: tests may run as root. The rest keeps it from looking for its maker's servers.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = "No Chromium is on the path; install one: apt-get install --no-install-recommends chromium"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    require(program is not None, MISSING)
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(browser: Any) -> AsyncIterator[Scene]:
    """Serve the page of a project to a browser window; nothing may go wrong in it unnoticed."""
    async with Scene.opened(browser) as scene:
        yield scene
        assert scene.complaints == []
