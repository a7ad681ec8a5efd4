"""What a wheel of this checkout holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.architecture.rooms import PACKAGE, ROOT

NOT_SHIPPED = {"__pycache__"}


@pytest.mark.e2e
def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("flue/")}
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and not NOT_SHIPPED & set(path.parts)]
    assert {path.relative_to(PACKAGE.parent).as_posix() for path in files} == held
    assert {"flue/server/page/static/index.html", "flue/server/page/static/app.js", "flue/py.typed"} <= held
