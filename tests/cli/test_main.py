from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flue as package
from flue.cli.main import main

Flue = Callable[..., Any]
COMMANDS = ("init", "run", "connect", "logs")


def test_without_a_command_the_usage_goes_to_stderr(flue: Flue) -> None:
    done = flue()
    assert (done.code, done.out) == (1, "")
    assert all(f"  {name} " in done.err for name in COMMANDS)


def test_help_goes_to_stdout(flue: Flue) -> None:
    done = flue("--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("usage: flue")


def test_the_version_is_the_packages(flue: Flue) -> None:
    assert flue("--version").out == f"flue {package.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(flue: Flue, name: str) -> None:
    done = flue(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: flue {name}")
    assert "--debug" in done.out


@pytest.mark.e2e
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_standard_stream_is_no_error(spawn: Callable[..., Any], write: Any, number: int) -> None:
    agent = 'from flue import create_agent\nagent = create_agent(model="demo/librarian")\n'
    write({"workflows/hello.py": "async def run(ctx): return 'hello'\n", "agents/support.py": agent})
    for command in (["run", "hello"], ["connect", "support", "x"]):
        child = spawn(*command, preexec_fn=lambda: os.close(number))
        child.process.stdin.close()
        child.process.stdin = None
        done = child.finish()
        assert done.code == 0
        assert "Traceback" not in done.err
        assert done.out == ('"hello"\n' if command[0] == "run" and number != 1 else "")


def test_an_unknown_command_lists_the_available_ones(flue: Flue) -> None:
    done = flue("conect")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        'error: Unknown command "conect". Did you mean "connect"? [invalid_arguments]\nusage: flue'
    )
    assert all(f"  {name} " in done.err for name in COMMANDS)


def test_an_unknown_option_in_the_commands_place_is_called_an_option(flue: Flue) -> None:
    assert flue("--frobnicate").err.startswith('error: Unknown option "--frobnicate". [invalid_arguments]\n')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "flue run: the following arguments are required: name."),
        (["run", "x", "--nope"], "flue run: unrecognized arguments: --nope."),
        (
            ["run", "x", "--paylod={}"],
            "flue run: unrecognized arguments: --paylod={}. Did you mean --payload?",
        ),
        (["logs", "x", "--folow"], "flue logs: unrecognized arguments: --folow. Did you mean --follow?"),
        (["run", "x", "--pay", "{}"], "flue run: unrecognized arguments: --pay {}."),
        (["connect", "x"], "flue connect: the following arguments are required: instance-id."),
        (["connect", "a", "b", "--payload", "{}"], "flue connect: unrecognized arguments: --payload {}."),
        (["connect", "a", "b", "--port", "1"], "flue connect: unrecognized arguments: --port 1."),
        (
            ["run", "x", "--env", "a", "--env", "b"],
            "flue run: --env was given twice; only one environment file is read.",
        ),
        (["init", "--target"], "flue init: argument --target: expected one argument."),
    ],
)
def test_a_wrong_command_line_is_one_line_and_the_usage(flue: Flue, arguments: list[str], message: str) -> None:
    done = flue(*arguments)
    assert (done.code, done.out) == (1, "")
    first, second, *_ = done.err.splitlines()
    assert first == f"error: {message} [invalid_arguments]"
    assert second.startswith(f"usage: flue {arguments[0]}")


def test_the_help_starts_fast_because_it_imports_no_project_code() -> None:
    code = "import sys; from flue.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-I", "-c", _with_source(code)], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint({"asyncio", "pydantic", "argparse", "flue.errors", "flue.project.loader"})


def test_a_reader_that_goes_away_is_no_traceback(root: Path) -> None:
    code = _with_source("import sys; from flue.cli.main import main; sys.exit(main(['--help']))")
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    with child.stderr as stderr:
        assert stderr.read() == ""
    assert child.wait() in (0, 1)


def test_a_keyboard_interrupt_while_loading_is_130(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flue.cli.init.execute", interrupt)
    assert main(["init"]) == 130


def _with_source(code: str) -> str:
    return f"import sys; sys.path.insert(0, {str(Path(package.__file__).parent.parent)!r}); {code}"
