"""What the package imports is what it declares, no more and no less."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from functools import cache
from typing import Any

from packaging.requirements import Requirement

from tests.architecture.rooms import ROOT, modules

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT.get("optional-dependencies", {})


OWNERS = importlib.metadata.packages_distributions()
DECLARED = [*PROJECT["dependencies"], *(requirement for extra in EXTRAS.values() for requirement in extra)]
# uvicorn reads HTTP with it.
USED_BY_OTHERS = {"httptools"}


def import_names(requirement: str) -> set[str]:
    """Return the top-level modules of an installed distribution."""
    name = Requirement(requirement).name
    return {module for module, names in OWNERS.items() if name in {owner.lower() for owner in names}}


IMPORT = re.compile(r"^ *(?:from (\w+)[\w.]* import\b|import (\w+)(?:\.\w+)*(?: as \w+)?(?: *#.*)?$)", re.MULTILINE)


@cache
def imported() -> set[str]:
    # By their looks: to parse every module takes seconds.
    roots = {one or other for module in modules() for one, other in IMPORT.findall(module.source)}
    return roots - {*sys.stdlib_module_names, "flue"}


# Carried by pydantic and by Python 3.14.
CARRIED = {"pydantic_core", "typing_extensions", "annotationlib"}
# The pytest plugin runs only where pytest does, and offers its async fixtures where pytest-asyncio is. A build for
# Cloudflare runs pip as a program of its own, and says so where there is none. A Worker has the last four.
GIVEN = {"pip", "pytest", "pytest_asyncio", "flue_bundle", "js", "pyodide", "workers"}


def test_every_foreign_import_is_a_declared_dependency() -> None:
    known = {name for requirement in DECLARED for name in import_names(requirement)}
    assert imported() - known - CARRIED - GIVEN == set()


def test_every_declared_dependency_is_imported() -> None:
    ours = [requirement for requirement in DECLARED if Requirement(requirement).name not in USED_BY_OTHERS]
    assert not [requirement for requirement in ours if not import_names(requirement) & imported()]
