"""Runs pip as if this were the Python of a Worker: a program of its own, `python target_pip.py install …`.

pip judges environment markers by the interpreter that it runs in, and has no option for another one. A dependency that
exists on `sys_platform == "emscripten"` only would be left out, and one that a Worker cannot have would be asked for.
"""

from __future__ import annotations

import sys
from typing import Any

# What Python says of itself in Pyodide 314.
ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.14.2",
    "os_name": "posix",
    "platform_machine": "wasm32",
    "platform_python_implementation": "CPython",
    "platform_release": "5.0.3",
    "platform_system": "Emscripten",
    "platform_version": "#1",
    "python_full_version": "3.14.2",
    "python_version": "3.14",
    "sys_platform": "emscripten",
}


def run() -> Any:
    """Run pip with the process's arguments and return its exit code."""
    from pip._internal.cli.main import main  # type: ignore[import-untyped, unused-ignore]
    from pip._vendor.packaging import markers  # type: ignore[import-untyped, unused-ignore]

    markers.default_environment = lambda: dict(ENVIRONMENT)
    return main()


if __name__ == "__main__":
    sys.exit(run())
