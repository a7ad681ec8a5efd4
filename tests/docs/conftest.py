from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flue.registrations import PROCESS
from flue.testing.provider_server import ProviderServer
from tests.docs.page import Page
from tests.docs.sample_answers import SampleAnswers

# Snippets name real providers. Each is answered by the fake server in the one format that `SampleAnswers` speaks.
PROVIDERS = ("anthropic", "openai", "google", "groq", "mistral", "openrouter", "deepseek", "xai", "ollama")


class ServerThread:
    """A provider server with an event loop of its own: snippets start and end their loops as they like."""

    def __init__(self) -> None:
        self.answers = SampleAnswers()
        self.server = ProviderServer(self.answers)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        async with self.server:
            self._ready.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def provider() -> Iterator[ServerThread]:
    thread = ServerThread()
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def open_page(
    provider: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], Page]]:
    """Return a function that makes a page ready to run."""
    for name in ("providers", "overrides", "observers", "schedules"):
        monkeypatch.setattr(PROCESS, name, getattr(PROCESS, name).copy())
    for name in PROVIDERS:
        provider.server.register(name)
        monkeypatch.setenv(f"{name.upper()}_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)

    def make(path: Path) -> Page:
        return Page(path, tmp_path, provider.answers, monkeypatch)

    yield make
    os.environ.clear()
    os.environ.update(environment)
    provider.answers.clear()
