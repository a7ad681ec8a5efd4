"""Sandboxes: where an agent's files lie and its commands run.

`virtual()` is the default: bash and files in memory, nothing of the host. `local()` is the host itself,
`cloudflare_bridge()` a container elsewhere. All are factories for an agent's `sandbox=`. Names are loaded when first
used: importing this package costs nothing and works where there are no processes and no threads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.harness.env import SessionEnv
    from flue.harness.sandbox import SandboxFactory, create_sandbox_session_env
    from flue.ports import ExecResult, FileStat, Sandbox
    from flue.sandboxes.bridge_sandbox import cloudflare_bridge
    from flue.sandboxes.directory_files import DirectoryFiles, directory
    from flue.sandboxes.engine import Limits, Network
    from flue.sandboxes.local_sandbox import local
    from flue.sandboxes.virtual_sandbox import virtual
    from flue.sandboxes.worker_pool import WorkerPool

_EXPORTS = {
    "harness.env": ("SessionEnv",),
    "harness.sandbox": ("SandboxFactory", "create_sandbox_session_env"),
    "ports": ("ExecResult", "FileStat", "Sandbox"),
    "sandboxes.bridge_sandbox": ("cloudflare_bridge",),
    "sandboxes.directory_files": ("DirectoryFiles", "directory"),
    "sandboxes.engine": ("Limits", "Network"),
    "sandboxes.local_sandbox": ("local",),
    "sandboxes.virtual_sandbox": ("virtual",),
    "sandboxes.worker_pool": ("WorkerPool",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "DirectoryFiles",
    "ExecResult",
    "FileStat",
    "Limits",
    "Network",
    "Sandbox",
    "SandboxFactory",
    "SessionEnv",
    "WorkerPool",
    "cloudflare_bridge",
    "create_sandbox_session_env",
    "directory",
    "local",
    "virtual",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'flue.sandboxes' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flue.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
