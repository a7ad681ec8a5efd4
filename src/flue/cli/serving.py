"""What `flue dev` and `flue start` do first: the socket, and which project it is for."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

from flue.errors import ConfigError, UsageError
from flue.serve.source import Source


def source_of(args: argparse.Namespace) -> Source:
    """Return the project that the options name."""
    return Source(
        cwd=Path.cwd(),
        root=args.root,
        config=args.config,
        env=args.env,
        target=args.target,
        output=getattr(args, "output", None),
    )


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `ConfigError` (`port_unavailable`), `UsageError` (`missing_package`)."""
    if not 0 <= port < 65536:
        raise ConfigError(f"{port} is no port: ports go from 0 to 65535.", code="invalid_arguments")
    try:
        from flue.serve.http import listen
    except ImportError as error:
        raise UsageError(
            f"Serving needs the package {error.name}.",
            code="missing_package",
            hint="Install flue-agents with its extra: pip install 'flue-agents[server]'.",
        ) from error
    return listen(host, port)


def url_of(host: str, listening: socket.socket) -> str:
    """Return the address to type into a browser of this machine."""
    port = listening.getsockname()[1]
    name = "localhost" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"http://{name}:{port}"
