from __future__ import annotations

import ast
import importlib
import re

import pytest

import flue
from tests.architecture.rooms import PACKAGE, ROOT, Module, modules

FRONT_DOOR = Module("flue", PACKAGE / "__init__.py", (PACKAGE / "__init__.py").read_text(encoding="utf-8"))
REFERENCE = ROOT / "docs" / "reference"


def public_packages() -> list[str]:
    """Return the packages that list their public names."""
    lists_names = re.compile(r"^__all__ = ", re.MULTILINE)
    return [m.name for m in modules() if m.path.name == "__init__.py" and lists_names.search(m.source)]


@pytest.mark.parametrize("package", public_packages())
def test_every_public_name_can_be_imported_and_is_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert len(set(names)) == len(names)
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing
    assert set(names) <= set(dir(module))


def test_the_front_door_tells_type_checkers_what_it_loads_at_run_time() -> None:
    typed = {
        (node.module, alias.name)
        for block in ast.walk(FRONT_DOOR.tree())
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loaded = {(f"flue.{module}", name) for name, module in flue._MODULES.items()}
    assert typed == loaded
    assert {name for _, name in loaded} | {"__version__"} == set(flue.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_agnet'"):
        _ = flue.create_agnet


def test_the_version_is_that_of_the_distribution() -> None:
    assert f'\nversion = "{flue.__version__}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.skipif(not [*REFERENCE.rglob("*.md")], reason="docs/reference is not written yet")
def test_every_public_name_has_a_heading_in_the_reference() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.rglob("*.md")))
    documented = set(re.findall(r"^#{2,4} `(?:flue\.)?(\w+)", pages, re.MULTILINE))
    assert set(flue.__all__) - {"__version__"} <= documented
