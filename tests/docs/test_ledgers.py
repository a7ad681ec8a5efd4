"""Every promise in a ledger of the documentation has an id of its own, and names tests that exist.

It is cited where the code keeps it, and above each of its tests.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGERS = {"DUR": "durability.md", "SBX": "security.md", "BLD": "security.md"}
PAGES = {prefix: (ROOT / "docs" / page).read_text(encoding="utf-8") for prefix, page in LEDGERS.items()}
PROMISES = [
    promise
    for prefix, page in PAGES.items()
    for promise in re.findall(rf"^\| ({prefix}-\d\d) \| .* \| (`.*`) \|$", page, re.MULTILINE)
]
SOURCES = [*(ROOT / "src" / "flue" / "testing").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)


def definitions(text: str) -> dict[str, set[str]]:
    """Return every function and class, and the promises that a comment above it cites."""
    found: dict[str, set[str]] = {}
    cited: set[str] = set()
    for line in text.splitlines():
        if comment := re.match(r" *# ((?:[A-Z]+-\d\d(?:, )?)+)$", line):
            cited = set(comment[1].split(", "))
        elif defined := re.match(r" *(?:async def|def|class) (\w+)", line):
            found.setdefault(defined[1], set()).update(cited)
            cited = set()
    return found


DEFINED = definitions(TESTS)
CODE = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "src" / "flue").rglob("*.py") if path.parent.name != "testing"
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


@pytest.mark.parametrize(("id", "tests"), PROMISES)
def test_a_promise_is_cited_where_it_is_kept_and_above_its_tests(id: str, tests: str) -> None:
    assert re.search(rf"\b{id}\b", CODE), "no code says that it keeps it"
    assert not [name for name in re.findall(r"`(\w+)`", tests) if id not in DEFINED[name]]


def test_nothing_cites_a_promise_that_is_not_in_the_ledger() -> None:
    known = {id for id, _ in PROMISES}
    assert set(re.findall(rf"\b(?:{'|'.join(LEDGERS)})-\d\d\b", CODE + TESTS)) <= known
    for id, tests in PROMISES:
        named = set(re.findall(r"`(\w+)`", tests))
        assert {name for name, cited in DEFINED.items() if id in cited} <= named
