from __future__ import annotations

import ast
import importlib
import re

import pytest

import flue
from tests.architecture.rooms import PACKAGE, ROOT, Module, modules, room_of

FRONT_DOOR = Module("flue", PACKAGE / "__init__.py", (PACKAGE / "__init__.py").read_text(encoding="utf-8"))
REFERENCE = ROOT / "docs" / "reference" / "api.md"


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


@pytest.mark.parametrize("package", public_packages())
def test_no_public_name_is_also_that_of_a_module(package: str) -> None:
    """Python sets a package's attribute to a submodule when that is imported first, so the name would be either."""
    inside = {module.name.rpartition(".")[2] for module in modules() if module.name.rpartition(".")[0] == package}
    assert not inside & set(importlib.import_module(package).__all__)


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


def reference_sections() -> dict[str, str]:
    """Return the text under each heading that is the name of a package."""
    parts = re.split(r"^## (flue[.\w]*)\n", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def linked_pages(section: str) -> str:
    """Return the pages that a section refers to for its names: "See [testing](…)."."""
    links = re.findall(r"^See \[.*?\]\(([^)#]+)\)\.$", section, re.MULTILINE)
    return "".join((REFERENCE.parent / link).read_text(encoding="utf-8") for link in links)


# What users need of the inner rooms is at the front door.
@pytest.mark.parametrize("package", [name for name in public_packages() if room_of(name) not in {"harness", "models"}])
def test_every_public_name_is_in_the_reference(package: str) -> None:
    section = reference_sections()[package]
    named = set(re.findall(r"\w+", section + linked_pages(section)))
    assert set(importlib.import_module(package).__all__) - {"__version__"} <= named


@pytest.mark.parametrize("package", reference_sections())
def test_every_name_in_a_table_of_the_reference_can_be_imported(package: str) -> None:
    cells = re.findall(r"^\| (`.*?) \|", reference_sections()[package], re.MULTILINE)
    module = importlib.import_module(package)
    assert not [name for cell in cells for name in re.findall(r"`([\w]+)", cell) if not hasattr(module, name)]
