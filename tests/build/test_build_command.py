from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flue.cli.main import main
from tests.build.conftest import Write

FILES = {
    ".flue/workflows/hello.py": "import os\nroute = True\nos.environ['NEEDED']\nasync def run(ctx): return 1\n",
    ".flue/workflows/hidden.py": "async def run(ctx): return 1\n",
    ".flue/agents/clerk.py": """
        from flue import create_agent
        route = websocket = True
        agent = create_agent(model="demo/librarian")
    """,
    ".flue/agents/reporter.py": "triggers = {'webhook': True}\nasync def run(ctx): return 1\n",
    ".env": "NEEDED=canary-7f3a\n",
    "token.key": "canary-7f3a",
}
Build = Callable[..., int]


@pytest.fixture
def build(write: Write, uv: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Run `flue build` on the project, with the fake resolver."""
    monkeypatch.chdir(write(FILES))
    monkeypatch.setenv("UV", str(uv))

    def run(*options: str) -> int:
        before = dict(os.environ)
        code = main(["build", *options])
        assert dict(os.environ) == before
        return code

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# BLD-01
def test_a_build_holds_all_that_a_server_needs_and_no_secret(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == 0
    built = contents(Path("dist"))
    wheels = [name for name in built if name.startswith("wheels/flue_agents-")]
    sources = [f"app/{name}" for name in FILES if name.endswith(".py")]
    assert sorted(built) == sorted(
        [".flue-build", "Dockerfile", "manifest.json", "requirements.txt", *wheels, *sources]
    )
    assert not [name for name, data in built.items() if b"canary-7f3a" in data]
    told = capsys.readouterr()
    assert "Left out, because their names say that they hold secrets: token.key" in told.err
    assert told.out == ""


def test_the_manifest_names_agents_and_workflows_with_their_transports(build: Build) -> None:
    build()
    manifest = json.loads(Path("dist/manifest.json").read_text())
    assert manifest["agents"] == [
        {"name": "clerk", "transports": {"http": True, "websocket": True}, "created": True},
        {"name": "reporter", "transports": {"http": True}},
    ]
    assert manifest["workflows"] == [
        {"name": "hello", "transports": {"http": True}},
        {"name": "hidden", "transports": {}},
    ]
    assert manifest["start"] == ["flue", "start", "--root", "app"]


def test_the_same_input_gives_the_same_bytes(build: Build) -> None:
    build()
    first = contents(Path("dist"))
    build()
    assert contents(Path("dist")) == first


def test_the_image_runs_as_nobody_special_keeps_data_in_a_volume_and_is_probed(build: Build) -> None:
    build()
    lines = Path("dist/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM ") and line.endswith("-slim")]
    assert "USER 10001" in lines
    assert "VOLUME /data" in lines
    assert [line for line in lines if line.startswith("HEALTHCHECK ")]
    assert 'CMD ["flue", "start", "--root", "app"]' in lines
    assert not [line for line in lines if "gcc" in line or "build-essential" in line]


def test_a_project_that_says_another_target_is_started_for_this_one(build: Build) -> None:
    Path("flue.toml").write_text('target = "cloudflare"\n')
    assert build("--target", "server") == 0
    assert json.loads(Path("dist/manifest.json").read_text())["start"][-2:] == ["--target", "server"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({".flue/workflows/hello.py": "mistake\n"}, "error: .flue/workflows/hello.py:1: NameError"),
        ({".flue/workflows/hello.py": "route = 1\nasync def run(ctx): ...\n"}, "error: .flue/workflows/hello.py"),
        ({"dist/mine.txt": "x"}, "error: The output folder dist holds files"),
        ({"pyproject.toml": "[project"}, "error: "),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_1(
    build: Build, write: Write, capsys: pytest.CaptureFixture[str], change: dict[str, str], said: str
) -> None:
    write(change)
    assert build() == 1
    [error] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[flue]")]
    assert error.startswith(said)
    assert not Path("dist/manifest.json").exists()


def test_settings_that_a_build_would_lose_are_an_error(
    build: Build, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "flue.toml"
    elsewhere.write_text(f'root = "{Path.cwd()}"\n[log]\nerrors = "redacted"\n', encoding="utf-8")
    assert build("--config", str(elsewhere), "--env", ".env") == 1
    assert "[config_outside]" in capsys.readouterr().err
    Path("flue.toml").write_text('[log]\nerrors = "redacted"\n', encoding="utf-8")
    assert build("--config", str(elsewhere), "--env", ".env") == 0
