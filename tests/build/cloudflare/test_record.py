from __future__ import annotations

from pathlib import Path

import pytest

from flue.build.wrangler.record import RECORD, read_record, write_record
from flue.errors import ConfigError


def test_what_is_written_is_read_again_and_not_written_twice(tmp_path: Path) -> None:
    tags = {"": ("v1", "flue-class-A"), "staging": ("v1",)}
    assert write_record(tmp_path, tags)
    assert read_record(tmp_path) == tags
    assert not write_record(tmp_path, tags)


def test_without_migrations_there_is_no_record(tmp_path: Path) -> None:
    assert not write_record(tmp_path, {"": ()})
    assert not (tmp_path / RECORD).exists()
    assert read_record(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', '{"a": [1]}', "<<<<<<< HEAD\n{}\n"])
def test_a_record_that_was_spoiled_is_refused_before_anything_is_built_on_it(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(ConfigError, match="is not what flue build wrote") as caught:
        read_record(tmp_path)
    assert caught.value.code == "invalid_wrangler"
