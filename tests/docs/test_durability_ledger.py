"""Every promise in docs/durability.md has an id of its own and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^\| (DUR-\d\d) \| .* \| (`.*`) \|$", PAGE, re.MULTILINE)
SOURCES = [*(ROOT / "src" / "flue" / "testing").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
DEFINED = set(
    re.findall(
        r"^ *(?:async def|def|class) (\w+)",
        "\n".join(path.read_text(encoding="utf-8") for path in SOURCES),
        re.MULTILINE,
    )
)


def test_ids_count_up() -> None:
    assert [id for id, _ in PROMISES] == [f"DUR-{number:02}" for number in range(1, len(PROMISES) + 1)]
    assert len(PROMISES) == PAGE.count("\n| DUR-")


@pytest.mark.parametrize(("id", "tests"), PROMISES)
def test_a_promise_names_tests_that_exist(id: str, tests: str) -> None:
    named = re.findall(r"`(\w+)`", tests)
    assert named
    assert not [name for name in named if name not in DEFINED]
