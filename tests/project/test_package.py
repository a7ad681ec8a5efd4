from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from flue.errors import ConfigError
from flue.project.loader import Project, load_project
from flue.project.package import PREFIX
from flue.registrations import PROCESS, current_registrations, using_registrations

Load = Callable[..., Project]
Write = Callable[..., Path]

FORECAST = "def forecast(city):\n    return f'sunny in {city}'\n"


def run(project: Project, workflow: str = "w", payload: Any = None) -> Any:
    return project.workflow(workflow).run(SimpleNamespace(payload=payload))


@pytest.mark.parametrize(
    "statement",
    [
        "from tools.weather import forecast",
        "import tools.weather\nforecast = tools.weather.forecast",
        "import tools.weather as w\nforecast = w.forecast",
        "from tools import weather\nforecast = weather.forecast",
        "from tools.weather import *",
        "from ..tools.weather import forecast",
        "from ..tools import weather as w\nforecast = w.forecast",
        "import tools\nfrom tools import weather\nforecast = tools.weather.forecast",
    ],
)
@pytest.mark.parametrize("init", [True, False])
def test_every_form_of_import_finds_the_projects_module(load: Load, statement: str, init: bool) -> None:
    files = {
        "workflows/w.py": f"{statement}\ndef run(ctx):\n    return forecast('Oslo')\n",
        "tools/weather.py": FORECAST,
    }
    project = load({**files, **({"tools/__init__.py": ""} if init else {})})
    assert run(project) == "sunny in Oslo"


def test_an_import_inside_a_function_works_after_loading(load: Load) -> None:
    source = "async def run(ctx):\n    from tools.weather import forecast\n    return forecast('Rome')\n"
    project = load({"workflows/w.py": source, "tools/weather.py": FORECAST})
    assert asyncio.run(run(project)) == "sunny in Rome"


def test_a_module_is_one_module_however_it_is_imported(load: Load) -> None:
    source = """
        import tools.weather as one
        from ..tools import weather as two
        from agents.a import agent as mine
        from ..agents import a
        def run(ctx):
            return one is two and mine is a.agent
    """
    agent = "from flue.definitions.agent import create_agent\nagent = create_agent(model='demo/x')\n"
    project = load({"workflows/w.py": source, "tools/weather.py": FORECAST, "agents/a.py": agent})
    assert run(project) is True
    assert project.agent("a").agent is project.agent("a").module.agent


def test_the_projects_module_wins_over_an_installed_one_inside_the_project_only(load: Load) -> None:
    source = "import pluggy\nfrom pluggy import MINE\ndef run(ctx):\n    return pluggy.__file__, MINE\n"
    project = load({"workflows/w.py": source, "pluggy.py": "MINE = 1\n"})
    assert run(project) == (str(project.root / "pluggy.py"), 1)
    assert not hasattr(pluggy, "MINE")
    assert importlib.import_module("pluggy") is pluggy


def test_an_installed_package_keeps_its_own_imports(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "flue_test_library.py").write_text("from flue_test_part import NAME\n")
    (installed / "flue_test_part.py").write_text("NAME = 'installed'\n")
    monkeypatch.syspath_prepend(installed)
    before = list(sys.path)
    source = "import flue_test_library\nimport flue_test_part\ndef run(ctx):\n    "
    source += "return flue_test_library.NAME, flue_test_part.NAME\n"
    project = load({"workflows/w.py": source, "flue_test_part.py": "NAME = 'mine'\n"}, "project")
    assert run(project) == ("installed", "mine")
    assert sys.path == before


def test_the_standard_library_and_flue_are_never_hidden(load: Load) -> None:
    source = """
        import json, email.message
        from flue.errors import FlueError
        from .. import json as mine
        def run(ctx):
            return json.dumps([1]), mine.NAME, FlueError.__module__
    """
    files = {"json.py": "NAME = 'mine'\n", "email/__init__.py": "", "flue/__init__.py": "", "flue/errors.py": ""}
    assert run(load({"workflows/w.py": source, **files})) == ("[1]", "mine", "flue.errors")


def test_a_folder_without_python_in_it_hides_nothing(load: Load) -> None:
    source = "import pluggy\ndef run(ctx):\n    return pluggy.__name__\n"
    assert run(load({"workflows/w.py": source, "pluggy/notes.md": "text"})) == "pluggy"


def test_dataclasses_and_pydantic_models_resolve_postponed_annotations(load: Load) -> None:
    source = """
        from __future__ import annotations
        import typing
        from dataclasses import dataclass, field, fields
        from typing import ClassVar, Literal
        from pydantic import BaseModel
        from shapes import Point

        @dataclass
        class Box:
            corner: Point
            kind: ClassVar[str] = "box"
            tags: list[str] = field(default_factory=list)

        class Answer(BaseModel):
            box: Box
            parts: list[Part]

        class Part(BaseModel):
            level: Literal["low", "high"]

        def run(ctx):
            hints = typing.get_type_hints(Box)
            answer = Answer.model_validate(ctx.payload)
            return hints["corner"] is Point, len(fields(Box)), answer.parts[0].level, type(answer.box.corner) is Point
    """
    shapes = "from typing import NamedTuple\nclass Point(NamedTuple):\n    x: int\n    y: int\n"
    project = load({"workflows/w.py": source, "shapes.py": shapes})
    payload = {"box": {"corner": [1, 2]}, "parts": [{"level": "low"}]}
    assert run(project, payload=payload) == (True, 2, "low", True)


def test_source_files_and_tracebacks_show_real_paths(load: Load) -> None:
    source = "from tools.weather import forecast\ndef run(ctx):\n    return forecast(ctx.missing)\n"
    project = load({"workflows/w.py": source, "tools/weather.py": FORECAST})
    workflow = project.workflow("w")
    assert workflow.module.__file__ == str(project.root / "workflows/w.py")
    assert inspect.getsource(workflow.run) == "def run(ctx):\n    return forecast(ctx.missing)\n"
    with pytest.raises(AttributeError) as caught:
        run(project)
    text = "".join(traceback.format_exception(caught.value))
    assert f'File "{project.root / "workflows/w.py"}", line 3, in run' in text
    assert "return forecast(ctx.missing)" in text


def test_loading_writes_nothing_into_the_project(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    project = load({"workflows/w.py": "import tools\ndef run(ctx): ...\n", "tools/__init__.py": ""})
    assert not list(project.root.rglob("__pycache__"))


def test_two_projects_in_one_process_do_not_see_each_other(load: Load) -> None:
    source = "import shared\nshared.SEEN.append(shared.NAME)\ndef run(ctx):\n    return shared.SEEN\n"
    one = load({"workflows/w.py": source, "shared.py": "NAME = 'one'\nSEEN = []\n"}, "one")
    two = load({"workflows/w.py": source, "shared.py": "NAME = 'two'\nSEEN = []\n"}, "two")
    assert (run(one), run(two)) == (["one"], ["two"])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("shared")


def test_unloading_removes_every_module_and_the_finder(write: Write) -> None:
    finders = list(sys.meta_path)
    project = load_project(write({"workflows/w.py": "import tools\ndef run(ctx): ...\n", "tools/__init__.py": ""}))
    assert any(name.startswith(PREFIX) for name in sys.modules)
    project.unload()
    assert not [name for name in sys.modules if name.startswith(f"{project.package.name}")]
    assert sys.meta_path == finders
    project.unload()


def test_a_reload_runs_the_new_source_while_the_old_project_still_works(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    workflow = "import values\ndef run(ctx):\n    return values.N\n"
    old = load({"workflows/w.py": workflow, "values.py": "N = 1\n"})
    assert run(old) == 1
    # Same size and same time: bytecode caches would not notice.
    values = old.root / "values.py"
    times = values.stat()
    write({"values.py": "N = 2\n"})
    os.utime(values, ns=(times.st_atime_ns, times.st_mtime_ns))
    new = load({})
    assert (run(old), run(new)) == (1, 2)


def test_registrations_belong_to_the_project_and_vanish_with_it(load: Load) -> None:
    source = """
        from flue.registrations import current_registrations
        current_registrations().providers["acme"] = "provider"
        def run(ctx): ...
    """
    project = load({"workflows/w.py": source})
    assert project.registrations.providers == {"acme": "provider"}
    assert project.registrations.parent is PROCESS
    assert PROCESS.providers.get("acme") is None
    with using_registrations(project.registrations):
        assert current_registrations().providers["acme"] == "provider"
    project.unload()
    assert project.registrations.providers == {}


@pytest.fixture
def unchanged_modules() -> Iterator[None]:
    before = {name for name in sys.modules if name.startswith(PREFIX)}, list(sys.meta_path)
    yield
    assert ({name for name in sys.modules if name.startswith(PREFIX)}, list(sys.meta_path)) == before


@pytest.mark.usefixtures("unchanged_modules")
def test_nothing_stays_behind_when_loading_fails(write: Write) -> None:
    with pytest.raises(ConfigError):
        load_project(write({"agents/a.py": "import tools\nboom\n", "tools/__init__.py": ""}))
