from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.page import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.is_file()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_snippet_of_the_page_does_what_the_page_says(path: Path, open_page: Callable[[Path], Page]) -> None:
    open_page(path).run()
