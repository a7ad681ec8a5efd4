from __future__ import annotations

import stat
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Write = Callable[[dict[str, str]], Path]

# What a resolver answers, whatever it is asked; it notes what that was.
FAKE_UV = f"""\
#!{sys.executable}
import pathlib, sys
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with (here / "asked").open("a") as file:
    file.write(" ".join(arguments) + chr(10))
    for argument in arguments:
        if argument.endswith((".in", "requirements.txt", ".lock.txt")) and pathlib.Path(argument).is_file():
            file.write(pathlib.Path(argument).name + ": " + pathlib.Path(argument).read_text() + chr(10))
if (here / "fails").exists():
    sys.exit((here / "fails").read_text())
if arguments[0] == "export":
    print("starlette[full]==1.2.3 ; python_version < '4'")
else:
    answer = (here / "answer").read_text()
    pathlib.Path(arguments[arguments.index("--output-file") + 1]).write_text(answer)
"""
ANSWER = """\
zebra==2.0 \\
    --hash=sha256:22
flue-agents[server]==0.1.0 \\
    --hash=sha256:99
Ant_Eater[x]==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:12 \\
    --hash=sha256:11
"""


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder, which is made if it is not there."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below a project's root."""
    return lambda files: write_files(tmp_path / "project", files)


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """Return a resolver that answers with the file `answer` beside it, fails with `fails`, and notes all in `asked`."""
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(FAKE_UV)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (program.parent / "answer").write_text(ANSWER)
    return program
