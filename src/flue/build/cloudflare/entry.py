"""The Worker's main module: it names every class that the platform is to find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flue.cloudflare.names import DurableClass


def entry_module(classes: Sequence[DurableClass], own: Iterable[str]) -> str:
    """Return its text; `own` are the classes of the user's `cloudflare.py` that the configuration binds."""
    lines = [
        "# Written by flue build.",
        "from flue.cloudflare.worker import worker",
        "from flue_bundle import BUNDLE",
        "",
        "_worker = worker(BUNDLE)",
        "Default = _worker.default",
        *map(_line, classes),
        *(f"{name} = _worker.own({name!r})" for name in sorted(own)),
    ]
    return "\n".join([*lines, ""])


def _line(found: DurableClass) -> str:
    if found.kind == "registry":
        return f"{found.class_name} = _worker.registry"
    return f"{found.class_name} = _worker.{found.kind}({found.name!r})"
