"""The original, installed from npm as a black box: built and started beside ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALLED = Path(__file__).resolve().parents[1] / "build" / "original"
MISSING = "the original is not installed; run: make e2e-setup"


def is_installed() -> bool:
    """Say whether it is there."""
    return (INSTALLED / "installed").is_file()


def node() -> str:
    """Return the Node that was installed with it, else the machine's."""
    bundled = [*INSTALLED.glob("node_modules/node-*/bin/node")]
    return str(bundled[0]) if bundled else shutil.which("node") or "node"


def flue(*arguments: str) -> list[str]:
    """Return the command that runs its command line."""
    return [node(), str(INSTALLED / "node_modules/@flue/cli/bin/flue.mjs"), *arguments]


@contextmanager
def serving(project: Path, **environment: str) -> Iterator[tuple[int, int, float]]:
    """Serve a project of the original's; give the port, the process's id, and when it was started."""
    env = {**os.environ, **environment, "PORT": str(_free_port())}
    # A background run that fails would end the process.
    command = [node(), "--unhandled-rejections=warn", "dist/server.mjs"]
    folder, began = built(project), time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"listening on .*:(\d+)", process.stdout.readline())
            assert found, "the original's server ended"
            yield int(found[1]), process.pid, began
        finally:
            process.kill()


def built(project: Path) -> Path:
    """Build a project of the original's, unless that was done, beside its node_modules; return the folder."""
    texts = [path.read_bytes() for path in sorted(project.rglob("*.mjs"))]
    folder = INSTALLED / f"built-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=INSTALLED) as making:
            copied = shutil.copytree(project, Path(making, "project"))
            subprocess.run(flue("build"), cwd=copied, check=True, capture_output=True, timeout=100)
            with contextlib.suppress(OSError):  # somebody else was faster
                copied.rename(folder)
    return folder


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
