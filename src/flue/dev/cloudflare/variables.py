"""Which files hold a Worker's local variables and secrets (developers.cloudflare.com/workers/configuration/secrets).

Exactly the file of `--env`; else `.dev.vars`, with which `.env` files do not count; else `.env` and what belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variables:
    """Files in the order in which later ones win, and a notice where one that is there does not count."""

    files: tuple[Path, ...] = ()
    notice: str = ""


def local_variables(root: Path, *, named: Path | None, environment: str | None) -> Variables:
    """Return the files that count for a Worker of an environment of the Wrangler file."""
    secrets = _first(root, *((f".dev.vars.{environment}",) if environment else ()), ".dev.vars")
    if named is not None:
        notice = f"{secrets.name} does not count, because --env names a file" if secrets else ""
        return Variables((named,), notice)
    names = [".env", ".env.local"]
    names += [f".env.{environment}", f".env.{environment}.local"] if environment else []
    files = tuple(root / name for name in names if (root / name).is_file())
    if secrets is None:
        return Variables(files)
    listed = ", ".join(file.name for file in files)
    return Variables((secrets,), f"{listed} does not count for the Worker beside {secrets.name}" if files else "")


def watched(root: Path, named: Path | None) -> tuple[Path, ...]:
    """Return all files that may count, whether they are there or not."""
    found = {path for pattern in (".dev.vars*", ".env*") for path in root.glob(pattern)}
    return (*sorted({*found, root / ".dev.vars", root / ".env"}), *((named,) if named is not None else ()))


def _first(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_file()), None)
