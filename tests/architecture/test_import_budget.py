from __future__ import annotations

import json
import subprocess
import sys

import pytest

MAX_MODULES = 350
HEAVY = {
    "argparse",
    "bashkit",
    "httpx2",
    "mcp",
    "pydantic",
    "pydantic_core",
    "pytest",
    "sqlite3",
    "ssl",
    "starlette",
    "uvicorn",
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after a statement."""
    program = f"import sys; {statement}; import json; print(json.dumps(sorted(sys.modules)))"
    # -S would hide an editable installation, -I would not: it only ignores the environment and the working directory.
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import flue", "from flue import create_agent, tool"])
def test_importing_the_front_door_loads_little_and_nothing_heavy(statement: str) -> None:
    modules = loaded_by(statement)
    assert "flue" in modules
    assert len(modules) <= MAX_MODULES
    assert not HEAVY & modules


def test_import_flue_alone_loads_no_other_module_of_the_package() -> None:
    assert {name for name in loaded_by("import flue") if name.startswith("flue")} == {"flue"}


def test_a_tool_is_defined_without_pydantic() -> None:
    program = "exec('''from flue import tool\\n@tool\\ndef f(x: int) -> int:\\n    \"Double.\"\\n    return 2 * x''')"
    assert "pydantic" not in loaded_by(program)
