"""The scripts of scripts.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Hostile:
    """A script and how it must end, as scripts.toml explains."""

    name: str
    script: str
    ends: str = ""
    stdout: str = ""
    never: str = ""
    commands: int = 20_000


def corpus() -> list[Hostile]:
    """Return all scripts."""
    entries = tomllib.loads(Path(__file__).with_name("scripts.toml").read_text(encoding="utf-8"))
    return [_hostile(name, dict(entry)) for name, entry in entries.items()]


def _hostile(name: str, entry: dict[str, Any]) -> Hostile:
    script = entry.pop("script", "")
    if "repeat" in entry:
        unit, count, last = entry.pop("repeat")
        script = unit * count + last
    if "wrap" in entry:
        left, count, inner, right = entry.pop("wrap")
        script = left * count + inner + right * count
    return Hostile(name, entry.pop("prefix", "") + script + entry.pop("suffix", ""), **entry)
