"""What `flue dev` and `flue start` do first: see that a server is installed, and which project it is for."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from flue.errors import ConfigError, UsageError
from flue.serve.source import Source

_PACKAGES = ("starlette", "uvicorn", "httptools", "websockets")


def source_of(args: argparse.Namespace) -> Source:
    """Return the project that the options name. Raises `UsageError` (`missing_package`) without the extra `server`."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"Serving needs the package {missing[0]}.",
            code="missing_package",
            hint="Install flue-agents with its extra: pip install 'flue-agents[server]'.",
        )
    return Source(
        cwd=Path.cwd(),
        root=args.root,
        config=args.config,
        env=args.env,
        target=args.target,
        output=getattr(args, "output", None),
    )


def check_port(port: int) -> int:
    """Return a port. Raises `ConfigError` for a number that is none."""
    if not 0 <= port < 65536:
        raise ConfigError(f"{port} is no port: ports go from 0 to 65535.", code="invalid_arguments")
    return port
