from __future__ import annotations

import json
import subprocess
import sys

import pytest

import flue.sandboxes


def modules_after(code: str) -> set[str]:
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(done.stdout))


@pytest.mark.e2e
def test_importing_the_package_loads_nothing() -> None:
    loaded = modules_after("import flue.sandboxes")
    assert not loaded & {
        "bashkit",
        "asyncio",
        "subprocess",
        "flue.sandboxes.virtual_sandbox",
        "flue.sandboxes.local_sandbox",
    }


@pytest.mark.e2e
def test_describing_a_sandbox_does_not_load_bashkit() -> None:
    loaded = modules_after("from flue.sandboxes import virtual, local\nvirtual({'a': 'x'}); local()")
    assert "bashkit" not in loaded


@pytest.mark.e2e
def test_a_missing_bashkit_is_a_clear_error() -> None:
    program = """
import asyncio, sys
sys.modules["bashkit"] = None
from flue.errors import SandboxError
from flue.sandboxes import virtual
try:
    asyncio.run(virtual().create_session_env(id="x"))
except SandboxError as error:
    print(error.code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.startswith("sandbox_unavailable Install the package bashkit")


@pytest.mark.parametrize("name", flue.sandboxes.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(flue.sandboxes, name) is not None
    assert name in dir(flue.sandboxes)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'remote'"):
        flue.sandboxes.remote  # noqa: B018
