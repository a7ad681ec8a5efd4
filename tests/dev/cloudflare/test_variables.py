from __future__ import annotations

from pathlib import Path

from flue.dev.cloudflare.variables import local_variables


def names(root: Path, *, named: Path | None = None, environment: str | None = None) -> tuple[list[str], str]:
    found = local_variables(root, named=named, environment=environment)
    return [file.name for file in found.files], found.notice


def write(root: Path, *files: str) -> None:
    for file in files:
        (root / file).touch()


def test_env_files_count_where_there_is_no_dev_vars(tmp_path: Path) -> None:
    assert names(tmp_path) == ([], "")
    write(tmp_path, ".env", ".env.local", ".env.staging", ".env.other")
    assert names(tmp_path) == ([".env", ".env.local"], "")
    assert names(tmp_path, environment="staging") == ([".env", ".env.local", ".env.staging"], "")


def test_beside_dev_vars_no_env_file_counts(tmp_path: Path) -> None:
    write(tmp_path, ".env", ".dev.vars", ".dev.vars.staging")
    assert names(tmp_path) == ([".dev.vars"], ".env does not count for the Worker beside .dev.vars")
    assert names(tmp_path, environment="staging")[0] == [".dev.vars.staging"]
    assert names(tmp_path, environment="other")[0] == [".dev.vars"]


def test_exactly_the_named_file_counts(tmp_path: Path) -> None:
    write(tmp_path, ".env", ".dev.vars")
    found = names(tmp_path, named=tmp_path / "my.env")
    assert found == (["my.env"], ".dev.vars does not count, because --env names a file")
