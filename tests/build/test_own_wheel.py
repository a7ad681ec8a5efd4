from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from flue.build.own_wheel import write_wheel


def test_the_wheel_holds_the_package_its_metadata_and_a_record_that_fits(tmp_path: Path) -> None:
    wheel = write_wheel(distribution("flue-agents"), tmp_path)
    version = distribution("flue-agents").version
    assert wheel.name == f"flue_agents-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read(f"flue_agents-{version}.dist-info/RECORD").decode()
        for line in record.splitlines()[:-1]:
            name, digest, size = line.rsplit(",", 2)
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(data))
        assert b"flue = flue.cli.main:main" in archive.read(f"flue_agents-{version}.dist-info/entry_points.txt")
    assert len(record.splitlines()) == len(names)
    assert {"flue/__init__.py", "flue/py.typed", "flue/server/app.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_same_installation_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    own = distribution("flue-agents")
    assert write_wheel(own, tmp_path).read_bytes() == write_wheel(own, tmp_path / "again").read_bytes()
