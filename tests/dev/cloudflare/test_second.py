from __future__ import annotations

import json
import stat
from pathlib import Path

from flue.dev.cloudflare.second import prepare_second


def folder(tmp_path: Path, **document: object) -> Path:
    made = tmp_path / "sandboxes"
    made.mkdir()
    (made / "wrangler.json").write_text(json.dumps(document))
    return made


def test_it_reads_the_files_of_variables_and_no_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "first.env").write_text("A=1\nB=1")
    (tmp_path / ".env.local").write_text("B=2\n")
    second = folder(tmp_path)
    both = [tmp_path / "first.env", tmp_path / ".env.local"]
    prepare_second(second, both, containers=True)
    assert (second / ".dev.vars").read_text() == "A=1\nB=1\nB=2\n"
    assert stat.S_IMODE((second / ".dev.vars").stat().st_mode) == 0o600
    prepare_second(second, both[:1], containers=True)
    assert (second / ".dev.vars").readlink() == tmp_path / "first.env"
    prepare_second(second, [], containers=True)
    assert not (second / ".dev.vars").exists()
    assert both[0].read_text() == "A=1\nB=1"


def test_without_docker_it_starts_without_containers(tmp_path: Path) -> None:
    second = folder(tmp_path, name="x", dev={"container_engine": "y"})
    prepare_second(second, [], containers=False)
    document = json.loads((second / "wrangler.json").read_text())
    assert document == {"name": "x", "dev": {"container_engine": "y", "enable_containers": False}}
