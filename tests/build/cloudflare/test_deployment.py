from __future__ import annotations

import json
from pathlib import Path

from flue.build.cloudflare.deployment import missing_ignores, point_wrangler


def test_wrangler_and_the_link_follow_the_build_to_another_folder(tmp_path: Path) -> None:
    for name in ("dist", "elsewhere"):
        worker = tmp_path / "project" / name / "worker"
        (worker / "python_modules").mkdir(parents=True)
        assert point_wrangler(tmp_path / "project", worker) == ()
        config = json.loads((tmp_path / "project/.wrangler/deploy/config.json").read_text())
        assert config == {"configPath": f"../../{name}/worker/wrangler.json"}
        link = tmp_path / "project" / "python_modules"
        assert link.is_symlink()
        assert link.resolve() == (worker / "python_modules").resolve()


def test_lines_that_a_gitignore_lacks_are_named_where_there_is_version_control(tmp_path: Path) -> None:
    output = tmp_path / "dist"
    assert missing_ignores(tmp_path, output) == ()
    (tmp_path / ".git").mkdir()
    everything = missing_ignores(tmp_path, output)
    assert {"dist/", "python_modules", ".wrangler/", ".dev.vars*", ".env*"} <= set(everything)
    (tmp_path / ".gitignore").write_text("/dist\nnode_modules\n.wrangler\n.env\n.dev.vars*\n")
    assert missing_ignores(tmp_path, output) == ("python_modules",)
