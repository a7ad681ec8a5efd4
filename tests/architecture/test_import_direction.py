from __future__ import annotations

import sys

import pytest

from tests.architecture.rooms import CORE, PACKAGE, Module, core_modules, floors, imports, modules, room_of

FLOORS = floors()
FLOOR_OF = {room: index for index, rooms in enumerate(FLOORS) for room in rooms}


def wrong_arrows(module: Module) -> list[str]:
    problems = []
    for found in imports(module):
        if found.module.split(".")[0] != "flue":
            continue
        target = room_of(found.module)
        where = f"{module.path}:{found.line}: {module.name} imports {found.module}"
        if not target and found.name == "__version__":
            continue
        if not target and found.name not in FLOOR_OF:
            problems.append(f"{where}: name the module that defines {found.name!r}, not the package's front door")
            continue
        target = target or found.name
        if target not in FLOOR_OF:
            problems.append(f"{where}: room {target!r} is not in the list in src/flue/__init__.py")
        elif target != module.room and FLOOR_OF[target] > FLOOR_OF[module.room]:
            problems.append(f"{where}: {target!r} lies outside {module.room!r}; arrows point inwards only")
        elif target != module.room and FLOOR_OF[target] == FLOOR_OF[module.room] > 0:
            problems.append(f"{where}: {target!r} and {module.room!r} stand side by side and must not know each other")
    return problems


def test_every_module_belongs_to_a_listed_room() -> None:
    homeless = sorted(module.name for module in modules() if module.room not in {*FLOOR_OF, ""})
    assert not homeless, f"not in a room that src/flue/__init__.py lists: {homeless}"


def test_every_listed_room_exists_and_the_core_is_listed() -> None:
    assert set(CORE) <= set(FLOOR_OF)
    assert set(FLOOR_OF) <= {path.stem for path in PACKAGE.iterdir()}


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_a_room_imports_only_rooms_nearer_the_core(room: str) -> None:
    problems = [line for module in modules() if module.room == room for line in wrong_arrows(module)]
    assert not problems, "\n" + "\n".join(problems)


def test_no_two_modules_of_the_base_import_each_other() -> None:
    targets: dict[str, set[str]] = {room: set() for room in FLOORS[0]}
    for module in modules():
        if module.room in targets:
            targets[module.room] |= {room_of(found.module) for found in imports(module)} - {module.room}
    assert not [(a, b) for a in targets for b in targets[a] & set(targets) if a in targets[b]]


def test_the_core_imports_nothing_but_the_standard_library_and_what_is_as_pure() -> None:
    # typing_extensions comes with pydantic; annotationlib is in the standard library from Python 3.14 on.
    carried = {"pydantic_core", "annotationlib", "typing_extensions"}
    # cronsim is arithmetic on datetimes: pure Python, no clock, nothing imported but calendar and datetime.
    allowed = {*sys.stdlib_module_names, *carried, "flue", "pydantic", "cronsim"}
    foreign = [
        f"{module.path}:{found.line}: {found.module}"
        for module in core_modules()
        for found in imports(module)
        if found.module.split(".")[0] not in allowed
    ]
    assert not foreign, "\n" + "\n".join(foreign)


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("definitions.x", "from flue.harness.call import CallHandle", "inwards only"),
        ("harness.x", "import flue.host", "inwards only"),
        ("harness.x", "from flue import host", "inwards only"),
        ("harness.x", "def f():\n    from flue.cli import main", "inwards only"),
        ("models.x", "from flue.stores.memory import MemoryStore", "side by side"),
        ("models.x", "from ..stores import memory", "side by side"),
        ("harness.x", "from flue import tool", "front door"),
        ("harness.x", "from flue.nowhere import x", "not in the list"),
    ],
)
def test_a_wrong_arrow_is_found(name: str, source: str, complaint: str) -> None:
    (problem,) = wrong_arrows(Module(f"flue.{name}", PACKAGE / "x.py", source))
    assert complaint in problem


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "from flue import __version__",
        "from flue.ports import Clock",
        "from . import call",
        "from .call import CallHandle",
    ],
)
def test_a_right_arrow_is_allowed(source: str) -> None:
    assert wrong_arrows(Module("flue.harness.x", PACKAGE / "harness" / "x.py", source)) == []
