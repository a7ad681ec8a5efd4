"""The lock files fit pyproject.toml, hold hashes, and say nothing of where packages come from."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"].get("optional-dependencies", {})
LOCKS = {
    "run": ["server", "build"],
    "dev": [*EXTRAS, "build", "dev"],
    "bench": [*EXTRAS, "build", "bench"],
    "pyodide": [],
}


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, str]:
    """Return the versions that a lock pins."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ \\;]+)", lock_text(name), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def requirements_of(group: str) -> list[Requirement]:
    """Return what an extra or a dependency group asks for, with the groups it includes."""
    found: list[Requirement] = []
    for item in [*EXTRAS.get(group, []), *PROJECT["dependency-groups"].get(group, [])]:
        found += requirements_of(item["include-group"]) if isinstance(item, dict) else [Requirement(item)]
    return found


def direct_requirements(lock: str) -> list[Requirement]:
    asked = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    return asked + [requirement for group in LOCKS[lock] for requirement in requirements_of(group)]


def all_requirements() -> list[Requirement]:
    return [requirement for lock in LOCKS for requirement in direct_requirements(lock)]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_direct_dependency_within_its_bounds(lock: str) -> None:
    pinned = pins(lock)
    stale = [
        f"{requirement} but {lock}.txt has {pinned.get(canonicalize_name(requirement.name))}"
        for requirement in direct_requirements(lock)
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not stale, f"run: make lock\n{stale}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_carries_a_hash(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock_text(lock), flags=re.MULTILINE).strip())
    assert len(blocks) == len(pins(lock))
    assert not [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_index(lock: str) -> None:
    assert not re.findall(r"https?:|file:|--(?:extra-)?index-url|--find-links|--trusted-host", lock_text(lock))


@pytest.mark.parametrize("lock", ["dev", "bench", "pyodide"])
def test_the_locks_agree_on_what_they_share_with_the_installed_command(lock: str) -> None:
    run, other = pins("run"), pins(lock)
    assert {name: other[name] for name in run.keys() & other} == {name: run[name] for name in run.keys() & other}


def test_every_direct_dependency_has_an_upper_bound() -> None:
    open_ended = [
        str(requirement)
        for requirement in all_requirements()
        if not {"<", "<=", "==", "~="} & {specifier.operator for specifier in requirement.specifier}
    ]
    assert not open_ended


def test_the_sandbox_engine_is_pinned_exactly() -> None:
    (engine,) = (requirement for requirement in direct_requirements("run") if requirement.name == "bashkit")
    (specifier,) = engine.specifier
    assert specifier.operator == "=="
    assert Version(specifier.version) == Version(pins("run")["bashkit"])


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/package-lock.json")), ids=lambda path: path.parent.name)
def test_an_npm_lock_holds_hashes_and_no_address(path: Path) -> None:
    packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 1
    assert all("integrity" in entry for name, entry in packages.items() if name)
    assert not any("resolved" in entry for entry in packages.values())
