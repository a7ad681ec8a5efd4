"""Asks pip which packages a Worker can have, for its platform and not for the one that asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flue.build.cloudflare import target_pip
from flue.build.cloudflare.missing_wheels import no_wheel
from flue.build.dependencies import find_uv, lock_failed, normalised, try_resolver, write_lines
from flue.errors import ConfigError

# Two platforms: bashkit's wheel has the older tag, and runs. Requires-Python is not judged, because pip would take the
# Python that it runs in for the one to judge.
WHEEL_OPTIONS = (
    "--only-binary=:all:",
    "--platform=pyemscripten_2026_0_wasm32",
    "--platform=pyemscripten_2025_0_wasm32",
    "--python-version=3.14",
    "--implementation=cp",
    "--abi=cp314",
    "--abi=abi3",
    "--abi=none",
    "--ignore-requires-python",
    "--disable-pip-version-check",
    "--no-input",
)
# How often pip is asked again without the versions that it named as not fitting.
_ROUNDS = 5
_CONSTRAINT = re.compile(r"requested \(constraint\) ([A-Za-z0-9._-]+)==")
_NO_VERSION = re.compile(
    r"satisfies the requirement ([A-Za-z0-9._-]+)==[^(\n]*(?:\(from (?!versions:)([A-Za-z0-9._-]+))?"
)


def pip_for_worker() -> list[str]:
    """Return the command that runs pip for a Worker. Raises `ConfigError` (`missing_package`) without pip and uv."""
    uv = find_uv()
    if find_spec("pip") is not None:
        python = [sys.executable]
    elif uv is not None:
        python = [uv, "run", "--quiet", "--no-project", "--with", "pip", "python"]
    else:
        raise ConfigError(
            "A build for Cloudflare needs pip, which this environment does not have.",
            code="missing_package",
            hint="Run: python -m ensurepip",
        )
    return [*python, "-P", target_pip.__file__]


@dataclass(frozen=True, slots=True)
class Question:
    """Requirements of Flue's own, and those of a project or the file that lists them; `scratch` has local wheels."""

    own: Sequence[str]
    asked: Sequence[str] | Path
    project: Path
    scratch: Path

    def answer(self, pins: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return what pip would install, and notices.

        `pins` are versions to keep (`name==1.0`): those that do not fit a Worker are given up, with a notice. Raises
        `ConfigError`: `lock_failed`, `no_worker_wheel`.
        """
        kept = {normalised(pin.partition("==")[0]): pin for pin in pins}
        given_up: set[str] = set()
        rounds = 0
        while (done := self._ask(kept.values())).returncode and kept:
            rounds += 1
            named = _unfit(done.stdout + done.stderr) if rounds < _ROUNDS else set()
            wrong = named & kept.keys() or set(kept)
            given_up |= wrong
            kept = {name: pin for name, pin in kept.items() if name not in wrong}
        if done.returncode:
            raise no_wheel(done.stdout + done.stderr, self._has_wheel) or lock_failed(done.stderr or done.stdout)
        found: list[dict[str, Any]] = json.loads(self._report.read_text(encoding="utf-8"))["install"]
        there = sorted(given_up & {normalised(str(item["metadata"]["name"])) for item in found})
        return found, [
            f"Not the versions locked before, which do not fit a Worker: {', '.join(there)}"
        ] if there else []

    @property
    def _report(self) -> Path:
        return self.scratch / "report.json"

    def _ask(self, pins: Collection[str]) -> subprocess.CompletedProcess[str]:
        command = [*self._dry_run(), "--report", str(self._report), *self.own]
        file = self.asked if isinstance(self.asked, Path) else write_lines(self.scratch / "project.in", self.asked)
        command += ["--requirement", str(file)]
        if pins:
            command += ["--constraint", str(write_lines(self.scratch / "kept.txt", list(pins)))]
        return try_resolver(command, cwd=self.project)

    def _has_wheel(self, name: str) -> bool:
        return try_resolver([*self._dry_run(), "--quiet", "--no-deps", name], cwd=self.project).returncode == 0

    def _dry_run(self) -> list[str]:
        command = [*pip_for_worker(), "install", "--dry-run", "--ignore-installed"]
        return [*command, "--target", str(self.scratch / "t"), *WHEEL_OPTIONS, "--find-links", str(self.scratch)]


def _unfit(said: str) -> set[str]:
    """Return the packages whose versions pip says do not fit, and those that ask for these versions."""
    named = [*_CONSTRAINT.findall(said), *(name for pair in _NO_VERSION.findall(said) for name in pair)]
    return {normalised(name) for name in named if name}
