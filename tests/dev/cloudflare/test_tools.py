from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flue.dev.cloudflare.tools import bundle_folder, find_tools, workerd_with_bundle, wrangler_environment
from flue.errors import ConfigError


def fake_node(root: Path, version: str, says: str = "") -> Path:
    """Put a Node of a version into a project's node_modules, where npm would."""
    program = root / "node_modules" / "node" / "bin" / "node"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo v{version} || echo "{says}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def fake_wrangler(root: Path) -> None:
    package = root / "node_modules" / "wrangler" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text("{}")


def test_a_node_that_is_too_old_is_told_with_the_way_to_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    fake_node(tmp_path, "20.1.0")
    with pytest.raises(ConfigError, match=r"needs Node 22\.12 or newer; this machine has 20\.1") as caught:
        find_tools(tmp_path)
    assert caught.value.code == "missing_node"
    assert "npm install -D node@22" in caught.value.hint


def test_a_missing_wrangler_is_told_with_how_to_install_it(tmp_path: Path) -> None:
    fake_node(tmp_path, "24.0.0")
    with pytest.raises(ConfigError, match="Wrangler") as caught:
        find_tools(tmp_path)
    assert caught.value.code == "missing_wrangler"
    assert "npm install -D wrangler pyodide@314" in caught.value.hint


def test_wrangler_is_told_where_everything_is_and_to_be_quiet(tmp_path: Path) -> None:
    node = fake_node(tmp_path, "22.12.0")
    fake_wrangler(tmp_path)
    tools = find_tools(tmp_path / "below")
    command = tools.command(
        [Path("/w/a.json"), Path("/w/b.json")],
        host="127.0.0.1",
        port=1,
        state=Path("/s"),
        files=[Path("/r/.dev.vars")],
        containers=False,
    )
    assert command == [
        str(node),
        str(tmp_path / "node_modules/wrangler/bin/wrangler.js"),
        "dev",
        "--config=/w/a.json",
        "--config=/w/b.json",
        "--ip=127.0.0.1",
        "--port=1",
        "--persist-to=/s",
        "--show-interactive-dev-session=false",
        "--enable-containers=false",
        "--env-file=/r/.dev.vars",
    ]
    env = wrangler_environment({"PATH": "p", "CLOUDFLARE_ENV": "staging", "WRANGLER_SEND_METRICS": "true"}, None)
    assert (env["PATH"], env["WRANGLER_SEND_METRICS"], env["WRANGLER_HIDE_BANNER"]) == ("p", "true", "true")
    assert "CLOUDFLARE_ENV" not in env
    assert "MINIFLARE_WORKERD_PATH" not in env


def test_the_runtime_is_given_the_folder_of_bundles(tmp_path: Path) -> None:
    fake_node(tmp_path, "22.12.0", says="/opt/work erd")
    fake_wrangler(tmp_path)
    (tmp_path / "bundles").mkdir()
    program = workerd_with_bundle(find_tools(tmp_path), tmp_path, str(tmp_path / "bundles"))
    option = f"--pyodide-bundle-disk-cache-dir={tmp_path}/bundles"
    assert program.read_text().splitlines()[-1] == f'exec \'/opt/work erd\' "$command" {option} "$@"'
    assert wrangler_environment({}, program)["MINIFLARE_WORKERD_PATH"] == str(program)


def test_a_folder_of_bundles_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert bundle_folder({}) is None
    assert bundle_folder({"FLUE_WORKERD_BUNDLE_DIR": str(tmp_path)}) == str(tmp_path)
    with pytest.raises(ConfigError, match="which is no folder") as caught:
        bundle_folder({"FLUE_WORKERD_BUNDLE_DIR": str(tmp_path / "gone")})
    assert caught.value.code == "no_python_bundle"
