from __future__ import annotations

import re

from tests.docs.test_links import PAGES, ROOT

IMAGES = ROOT / "docs" / "images"


def test_pages_show_the_images_that_there_are_and_say_what_is_on_them() -> None:
    shown = set()
    for page in PAGES:
        for text, path in re.findall(r"!\[(.*?)\]\((?!https?:)(.*?)\)", page.read_text(encoding="utf-8")):
            assert text, f"{page}: {path} has no description"
            shown.add((page.parent / path).resolve())
    assert shown == set(IMAGES.iterdir())


def test_images_are_small() -> None:
    assert [image.name for image in IMAGES.iterdir() if image.stat().st_size > 150_000] == []
