from __future__ import annotations

import os
import re

from flue.host import SystemIds


def test_ulids_differ_and_sort_by_time() -> None:
    ids = SystemIds()
    made = [ids.ulid() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", ulid) for ulid in made)
    assert [ulid[:10] for ulid in made] == sorted(ulid[:10] for ulid in made)


def test_a_child_process_makes_ids_of_its_own() -> None:
    ids = SystemIds()
    ids.ulid()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, ids.ulid()[10:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16).decode() != ids.ulid()[10:]
    os.close(reading)
    os.close(writing)
