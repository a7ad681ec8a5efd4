"""`flue build --target cloudflare` from a folder of empty wheels: what is written, and what is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from flue.build.wrangler.jsonc import read_jsonc
from flue.cli.main import main
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from tests.build.cloudflare.conftest import use_index
from tests.build.conftest import write_files

CANARY = "canary-51c2"
FILES = {
    ".flue/workflows/daily_report.py": """
        from texts.greeting import GREETING
        route = True
        async def run(ctx): return GREETING
    """,
    ".flue/agents/assistant.py": """
        from flue import create_agent
        agent = create_agent(model="anthropic/claude-sonnet-4-6")
    """,
    ".flue/texts/greeting.py": "GREETING = 'Grüße'\n",
    ".flue/texts/note.md": "# Note\n",
    ".flue/cloudflare.py": """
        from workers import DurableObject
        class Counter(DurableObject): ...
        async def scheduled(event): ...
    """,
    ".agents/skills/greet/SKILL.md": "---\nname: greet\ndescription: Greets.\n---\nGreet.\n",
    "AGENTS.md": "Be kind.\n",
    "README.md": "Not for the Worker.\n",
    "flue.toml": """
        [log]
        errors = "redacted"
        [keep]
        runs = "12h"
        prompts = "forever"
    """,
    "wrangler.jsonc": """
        {
            "name": "reports", // the Worker's
            "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter" }] },
            "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Counter"] }]
        }
    """,
    ".env": f"KEY={CANARY}\n",
    ".dev.vars": f"KEY={CANARY}\n",
    ".flue/server.key": CANARY,
}
Build = Callable[..., int]

pytestmark = pytest.mark.timeout(60)  # whichever is first also waits for pip and the compiler


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an index, and a project that was built from it once: asking pip is slow."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        use_index(folder / "index", patch)
        write_files(folder / "project", FILES)
        patch.chdir(folder / "project")
        with redirect_stderr(StringIO()) as told:
            assert main(["build", "--target", "cloudflare"]) == 0
    (folder / "told").write_text(told.getvalue(), encoding="utf-8")
    return folder


@pytest.fixture
def build(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Run `flue build --target cloudflare` in the project; what was resolved and vendored before is used again."""
    use_index(once / "index", monkeypatch)
    write_files(tmp_path / "project", FILES)
    shutil.copytree(once / "project" / "dist", tmp_path / "project" / "dist")
    monkeypatch.chdir(tmp_path / "project")

    def run(*options: str) -> int:
        before = dict(os.environ)
        code = main(["build", "--target", "cloudflare", *options])
        assert dict(os.environ) == before
        return code

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# BLD-01, BLD-03
def test_a_build_holds_the_worker_and_no_secret_and_building_again_changes_no_byte(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    users = {name: Path(name).read_bytes() for name in FILES}
    assert build() == 0
    built = contents(Path("dist"))
    assert {name for name in built if not name.startswith("worker/python_modules/")} == {
        ".flue-build",
        "requirements.txt",
        "worker/src/entry.py",
        "worker/src/flue_bundle.py",
        "worker/wrangler.json",
    }
    assert not [name for name, data in built.items() if CANARY.encode() in data]
    told = capsys.readouterr().err
    assert "Left out, because their names say that they hold secrets: .flue/server.key" in told
    assert CANARY not in told
    assert build() == 0
    assert contents(Path("dist")) == built
    assert {name: Path(name).read_bytes() for name in FILES} == users


def test_the_worker_has_its_packages_and_flue_without_what_only_a_server_needs(build: Build) -> None:
    build()
    modules = set(contents(Path("dist/worker/python_modules")))
    assert {"bashkit/_bashkit.abi3.so", "pydantic_core/_pydantic_core.so", "workers/workflows.js"} <= modules
    assert {"flue/__init__.py", "flue/harness/session.py", "flue/models/catalog.json"} <= modules
    rooms = {name.split("/")[1] for name in modules if name.startswith("flue/")}
    assert not rooms & {"cli", "dev", "build", "serve", "testing", "sdk", "sync"}
    assert not {name for name in modules if "httpx" in name or "librarian" in name}
    assert not {name for name in modules if name.endswith((".pyi", "py.typed", "RECORD", "INSTALLER"))}


def test_the_entry_names_the_classes_and_the_bundle_holds_what_the_loader_reads(build: Build) -> None:
    build()
    entry = Path("dist/worker/src/entry.py").read_text(encoding="utf-8")
    assert entry.splitlines()[1:] == [
        "from flue.cloudflare.worker import worker",
        "from flue_bundle import BUNDLE",
        "",
        "_worker = worker(BUNDLE)",
        "Default = _worker.default",
        "Assistant = _worker.agent('assistant')",
        "DailyReportWorkflow = _worker.workflow('daily-report')",
        "FlueRegistry = _worker.registry",
        "Counter = _worker.own('Counter')",
    ]
    program = "import flue_bundle, json; b = flue_bundle.BUNDLE; print(json.dumps([b.handlers, b.agents, b.workflows,"
    program += " {name: data.decode() for name, data in b.files.items()}, b.project]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd="dist/worker/src", capture_output=True, text=True, check=True
    )
    handlers, agents, workflows, files, project = json.loads(done.stdout)
    assert (handlers, agents, workflows, project) == (["scheduled"], ["assistant"], ["daily-report"], "project")
    wanted = {name for name in FILES if name.startswith((".flue/", ".agents/")) and not name.endswith(".key")}
    assert set(files) == wanted | {"AGENTS.md"}
    assert files[".flue/texts/greeting.py"] == "GREETING = 'Grüße'\n"


def test_the_bundle_carries_what_the_configuration_says_of_logs_and_of_keeping(build: Build) -> None:
    build()
    first = bundled("BUNDLE.log, BUNDLE.keep, BUNDLE.version")
    keep = KeepFor(runs=12 * 3600.0, prompts=None)
    assert first.startswith(f"({LogSettings(errors='redacted')!r}, {keep!r}, ")
    Path("flue.toml").write_text('[keep]\nruns = "13h"\n', encoding="utf-8")
    build()
    assert bundled("BUNDLE.version") not in first
    assert bundled("BUNDLE.log, BUNDLE.keep") == repr((LogSettings(), KeepFor(runs=13 * 3600.0)))


def bundled(expression: str) -> str:
    """Return how something of the built module is written."""
    program = f"from flue_bundle import BUNDLE; print(repr(({expression})))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd="dist/worker/src", capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_wrangler_is_pointed_to_the_merged_configuration_and_to_the_packages(build: Build) -> None:
    build()
    redirect = Path(".wrangler/deploy/config.json")
    config = redirect.parent / json.loads(redirect.read_text())["configPath"]
    merged = read_jsonc(config.read_text(encoding="utf-8"))
    assert merged["name"] == "reports"
    assert [binding["class_name"] for binding in merged["durable_objects"]["bindings"]] == [
        "Counter",
        "Assistant",
        "DailyReportWorkflow",
        "FlueRegistry",
    ]
    assert (config.parent / merged["main"]).is_file()
    assert Path("python_modules").resolve() == Path("dist/worker/python_modules").resolve()
    assert Path("python_modules/flue/__init__.py").is_file()


def test_the_order_of_the_migrations_is_recorded_and_kept(build: Build) -> None:
    build()
    write_files(Path(), {".flue/agents/aardvark.py": FILES[".flue/agents/assistant.py"]})
    build()
    tags = ["v1", *(f"flue-class-{name}" for name in ("Assistant", "DailyReportWorkflow", "FlueRegistry", "Aardvark"))]
    assert json.loads(Path("flue.migrations.json").read_text()) == {"(top level)": tags}
    merged = json.loads(Path("dist/worker/wrangler.json").read_text())
    assert [migration["tag"] for migration in merged["migrations"]] == tags


def test_json_says_what_was_built(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["output"] == str(Path("dist").resolve())
    files = [path for path in Path("dist/worker").rglob("*") if path.is_file() and path.name != "wrangler.json"]
    assert report["upload"]["modules"] == len(files)
    assert report["upload"]["bytes"] == sum(path.stat().st_size for path in files)
    assert 0 < report["upload"]["gzipBytes"] < report["upload"]["bytes"] < report["upload"]["limitBytes"]
    assert report["bytecode"] is False
    assert [notice for notice in report["notices"] if "npm install -D pyodide@314" in notice]
    assert report["leftOut"]["secrets"] == [".flue/server.key"]
    assert report["next"] == ["npx wrangler deploy"]


def test_what_takes_long_is_said_once_it_is_there_nothing_is(
    build: Build, once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "[flue] Installing the Worker's packages; the next build has them\n"
    assert line in (once / "told").read_text(encoding="utf-8")
    build()
    assert "Installing" not in capsys.readouterr().err


def test_static_files_go_to_cloudflare_by_themselves(build: Build) -> None:
    write_files(
        Path(), {".flue/site/index.html": "<p>Hello", "wrangler.jsonc": '{"assets": {"directory": ".flue/site"}}'}
    )
    (Path(".flue") / "cloudflare.py").unlink()
    build()
    assert "index.html" not in Path("dist/worker/src/flue_bundle.py").read_text(encoding="utf-8")
    assert json.loads(Path("dist/worker/wrangler.json").read_text())["assets"] == {"directory": "../../.flue/site"}


# BLD-03
def test_packages_that_another_tool_put_into_the_root_are_not_touched(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(Path(), {"python_modules/mine.py": ""})
    assert build() == 1
    assert "[output_not_ours]" in capsys.readouterr().err
    assert Path("python_modules/mine.py").is_file()


def test_the_environment_of_cloudflare_env_is_built(
    build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path("wrangler.jsonc")).write_text('{"name": "reports", "env": {"staging": {"vars": {"LEVEL": "2"}}}}')
    monkeypatch.setenv("CLOUDFLARE_ENV", "staging")
    assert build("--json") == 0
    merged = json.loads(Path("dist/worker/wrangler.json").read_text())
    assert (merged["name"], merged["vars"]) == ("reports-staging", {"LEVEL": "2"})
    assert json.loads(capsys.readouterr().out)["environment"] == "staging"


def test_a_mistake_in_the_project_fails_the_build_but_what_only_a_worker_has_does_not(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(Path(), {".flue/workflows/daily_report.py": "import js\nasync def run(ctx): return 1\n"})
    assert build() == 0
    assert "Only a Worker has that, so the modules were not checked." in capsys.readouterr().err
    write_files(Path(), {".flue/workflows/daily_report.py": "import nonsense\nasync def run(ctx): return 1\n"})
    assert build() == 1
    assert "[module_failed]" in capsys.readouterr().err
