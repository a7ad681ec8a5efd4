"""Both servers, on the same model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import original
from tests.prerequisites import require
from tests.serve.server_process import serving

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """Run a fake provider and give its address."""
    require(original.is_installed(), original.MISSING)
    command = [sys.executable, "-m", "flue.testing.provider_server", "--port", "0", "--no-check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="session")
def theirs(model_url: str) -> Iterator[str]:
    """Give the address of the original's server."""
    with original.serving(HERE / "theirs", FAKE_MODEL_URL=model_url) as (port, _, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def ours(model_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of our server, which has the same project in Python."""
    root = tmp_path_factory.mktemp("ours")
    shutil.copytree(HERE / "ours", root, dirs_exist_ok=True)
    with serving(root, FAKE_MODEL_URL=model_url) as server:
        yield f"http://127.0.0.1:{server.port}"
