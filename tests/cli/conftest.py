from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

import flue as package
from flue.cli.main import main
from flue.testing.provider_server import ProviderServer

Write = Callable[[dict[str, str]], Path]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Flue = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project root that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(root: Path) -> Write:
    """Write files below the project's root."""

    def write_files(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return root

    return write_files


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
    assert changed <= {"PYTEST_CURRENT_TEST"}, "a command left variables in the environment"


@pytest.fixture
def flue(root: Path, capfd: pytest.CaptureFixture[str]) -> Flue:
    """Run the `flue` command in this process."""

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        return Outcome(code, *capfd.readouterr())

    return run


class Provider:
    """A fake model provider that runs in a thread of its own, so that commands may use this thread's event loop."""

    def __init__(self) -> None:
        self.server = ProviderServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self.server.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self.server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def env_file(self) -> str:
        """Return the text of an environment file that sends `ollama/<any model>` to this server."""
        return f"OLLAMA_BASE_URL={self.server.base_url('openai-completions')}\n"

    def _wait(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Return a running fake provider; texts in `[[…]]` tell it what to answer."""
    with Provider() as running:
        yield running


@dataclass
class Child:
    """A `flue` command in a process of its own."""

    process: subprocess.Popen[bytes]
    seen: bytes = b""

    def type(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def until(self, text: str) -> None:
        """Read stderr until `text` has appeared."""
        assert self.process.stderr is not None
        while text.encode() not in self.seen:
            piece = os.read(self.process.stderr.fileno(), 65536)
            assert piece, f"stderr ended before {text!r}: {self.seen.decode()}"
            self.seen += piece

    def finish(self) -> Outcome:
        """Wait for the end."""
        out, err = self.process.communicate(timeout=15)
        return Outcome(self.process.returncode, out.decode(), (self.seen + err).decode())


@pytest.fixture
def spawn(root: Path) -> Iterator[Callable[..., Child]]:
    """Start the `flue` command in a process of its own; `stdin` is a pipe unless given."""
    source = str(Path(package.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {source!r}); from flue.cli.main import main; sys.exit(main())"
    children: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **streams: Any) -> Child:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=root, **streams)
        children.append(child)
        return Child(child)

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()
