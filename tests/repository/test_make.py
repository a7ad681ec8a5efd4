from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLD = "#!/bin/sh\nexit 1\n"
# Passes the version check; `-m venv FOLDER` makes the folder and notes who made it.
NEW = '#!/bin/sh\nif [ "$1" = -m ]; then mkdir -p "$3" && echo "$0" > "$3/made-by"; fi\n'
BROKEN = '#!/bin/sh\nif [ "$1" = -m ]; then echo "No module named ensurepip"; exit 1; fi\n'


def create_venv(tmp_path: Path, **pythons: str) -> subprocess.CompletedProcess[str]:
    """Run the script where only the given interpreters are to be found."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in ("bash", "cat", "mkdir", "rm", "env"):
        (programs / tool).symlink_to(str(shutil.which(tool)))
    for name, text in pythons.items():
        program = programs / name.replace("_", ".")
        program.write_text(text)
        program.chmod(0o755)
    command = [str(ROOT / "scripts" / "create-venv"), str(tmp_path / "venv")]
    environment = {"PATH": str(programs)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_first_python_that_is_new_enough_makes_the_environment(tmp_path: Path) -> None:
    done = create_venv(tmp_path, python3=OLD, python3_13=NEW, python3_12=NEW)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv" / "made-by").read_text().strip().endswith("python3.13")


def test_without_a_new_python_the_message_says_what_is_needed(tmp_path: Path) -> None:
    done = create_venv(tmp_path, python3=OLD)
    assert done.returncode == 1
    assert "Flue needs Python 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_python_without_venv_is_told_how_to_get_it(tmp_path: Path) -> None:
    done = create_venv(tmp_path, python3=BROKEN)
    assert done.returncode == 1
    assert "No module named ensurepip" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE) == phony.split()
