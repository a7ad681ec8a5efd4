"""Every promise in a ledger of the documentation has an id of its own and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGERS = {"DUR": "durability.md", "SBX": "security.md"}
PAGES = {prefix: (ROOT / "docs" / page).read_text(encoding="utf-8") for prefix, page in LEDGERS.items()}
PROMISES = [
    promise
    for prefix, page in PAGES.items()
    for promise in re.findall(rf"^\| ({prefix}-\d\d) \| .* \| (`.*`) \|$", page, re.MULTILINE)
]
SOURCES = [*(ROOT / "src" / "flue" / "testing").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
DEFINED = set(
    re.findall(
        r"^ *(?:async def|def|class) (\w+)",
        "\n".join(path.read_text(encoding="utf-8") for path in SOURCES),
        re.MULTILINE,
    )
)


@pytest.mark.parametrize("prefix", LEDGERS)
def test_ids_count_up(prefix: str) -> None:
    ids = [id for id, _ in PROMISES if id.startswith(prefix)]
    assert ids == [f"{prefix}-{number:02}" for number in range(1, len(ids) + 1)]
    assert len(ids) == PAGES[prefix].count(f"\n| {prefix}-")
    assert ids


@pytest.mark.parametrize(("id", "tests"), PROMISES)
def test_a_promise_names_tests_that_exist(id: str, tests: str) -> None:
    named = re.findall(r"`(\w+)`", tests)
    assert named
    assert not [name for name in named if name not in DEFINED]
