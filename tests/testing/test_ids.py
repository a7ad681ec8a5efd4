from __future__ import annotations

import re

from flue.testing import SequentialIds


def test_each_kind_is_counted_from_one_in_its_real_form() -> None:
    ids = SequentialIds()
    assert [ids.entry(), ids.entry()] == ["00000001", "00000002"]
    assert [ids.uuid(), ids.uuid()][1] == "00000000-0000-4000-8000-000000000002"
    ulids = [ids.ulid() for _ in range(40)]
    assert ulids[0] == "00000000000000000000000001"
    assert ulids[31] == "00000000000000000000000010"
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", ulid) for ulid in ulids)
    assert ulids == sorted(set(ulids))
