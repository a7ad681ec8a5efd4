"""Runs inside Pyodide: imports the core and answers prompts there. `main()` returns a JSON report."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from typing import Any

import flue

ROOMS = ("errors", "messages", "ports", "events", "registrations", "definitions", "harness", "models", "sandboxes")


def import_all() -> list[str]:
    """Import every module of the rooms that a Worker carries."""
    names = []
    for room in ROOMS:
        module = importlib.import_module(f"flue.{room}")
        names.append(module.__name__)
        if hasattr(module, "__path__"):
            names += [found.name for found in pkgutil.walk_packages(module.__path__, f"{module.__name__}.")]
    for name in names:
        importlib.import_module(name)
    return names


async def main() -> str:
    """Return what was seen, as JSON."""
    report: dict[str, Any] = {
        "platform": sys.platform,
        "python": list(sys.version_info[:2]),
        "version": flue.__version__,
        "imported": import_all(),
        "modules": len(sys.modules),
    }
    return json.dumps(report)
