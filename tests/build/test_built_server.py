"""A built project in an environment of its own, installed from its lock, as a server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flue.build.dependencies import find_uv
from flue.build.server.requirements import lock_requirements
from tests.build.conftest import Write
from tests.serve.server_process import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "support-articles"
FILES = {
    "workflows/hello.py": """
        import starlette
        route = True
        async def run(ctx):
            return {"hello": ctx.payload["name"], "mode": ctx.env.get("FLUE_MODE")}
    """,
    "pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = ["tomli-w>=1"]\n',
    ".env": "FLUE_MODE=local\n",
}
# What no package of the build may need.
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false", "CARGO": "/bin/false"}


def run(command: list[str], cwd: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=env | NO_COMPILER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_build_starts_in_a_fresh_environment_answers_and_ends(write: Write, tmp_path: Path) -> None:
    root = write(FILES)
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".flue-data"))
    run([sys.executable, "-m", "flue", "build"], root)
    dist = tmp_path / "elsewhere"
    shutil.move(root / "dist", dist)
    shutil.rmtree(root)
    run([sys.executable, "-m", "venv", str(tmp_path / "venv")], dist)
    python = str(tmp_path / "venv" / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt"], dist)
    run([python, "-c", "import tomli_w"], dist)
    command = [python, "-m", "flue", "start", "--root", "app"]
    environment = {"PATH": os.environ["PATH"], "PORT": "0", "HOST": "127.0.0.1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=dist, env=environment, stdout=pipe, stderr=pipe) as process:
        try:
            server = Server(process, "start")
            result = server.call("/workflows/hello?wait=result", {"name": "Ada"})[2]["result"]
            # Of the example: an agent, and a sandbox in a process of its own.
            asked = server.call("/workflows/support?wait=result", {"message": "I forgot my password"})[2]["result"]
            end = server.stop(signal.SIGTERM)
            for connection in server.connections:
                connection.close()
        finally:
            if process.poll() is None:
                process.kill()
    assert result == {"hello": "Ada", "mode": None}
    assert "password reset email" in asked["response"]
    assert (end.code, end.seconds < 5) == (143, True)
    assert "[flue] Workflows: hello, support" in end.stderr


def test_pip_locks_for_this_platform_where_there_is_no_uv(write: Write, tmp_path: Path) -> None:
    root = write({"requirements.txt": "tomli-w>=1\n"})
    (tmp_path / "pip").mkdir()
    with_pip = lock_requirements(root, tmp_path / "pip", before=None, uv=None)
    assert "tomli_w==" in with_pip.text.replace("tomli-w", "tomli_w")
    assert "only, because uv is not installed" in with_pip.notices[0]
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is not installed")
    (tmp_path / "uv").mkdir()
    with_uv = lock_requirements(root, tmp_path / "uv", before=None, uv=uv)
    here = {line.split()[0] for line in with_pip.text.splitlines() if "==" in line}
    everywhere = {line.split()[0] for line in with_uv.text.splitlines() if "==" in line}
    assert {line.lower().replace("_", "-") for line in here} <= {line.lower().replace("_", "-") for line in everywhere}
