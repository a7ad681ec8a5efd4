"""The files of the dev page: how they are served, and what must not be in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flue
from flue.server.page.app import page
from tests.server.asgi_client import Client

STATIC = Path(flue.__file__).parent / "server" / "page" / "static"
FILES = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
SCRIPTS = [name for name in FILES if name.endswith(".js")]
# What makes markup, styles or code of text. The policy forbids it to the browser; here nobody even tries.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|\beval\b|new Function|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:|\.style\b|import\("
)


@pytest.fixture
def client() -> Client:
    return Client(page(None, lambda: None))


@pytest.mark.parametrize("name", FILES)
async def test_a_file_comes_with_its_type_and_once(client: Client, name: str) -> None:
    answer = await client.get(f"/_flue/{name}")
    assert (answer.status, answer.body.decode()) == (200, FILES[name])
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].split(";")[0] == kinds[name.rpartition(".")[2]]
    again = await client.get(f"/_flue/{name}", if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert (await client.get(f"/_flue/{name}", if_none_match='"other"')).status == 200


async def test_the_page_is_at_its_prefix_mounted_or_not(client: Client) -> None:
    assert (await client.get("/_flue/")).body.decode() == FILES["index.html"]
    assert (await client.get("/_flue")).headers["location"] == "/_flue/"
    mounted = Client(page(None, lambda: None), root_path="/_flue")
    assert (await mounted.get("/")).body.decode() == FILES["index.html"]
    assert (await mounted.get("/api/status")).json == {"version": "", "problem": None}


@pytest.mark.parametrize("path", ["/_flue/app.py", "/_flue/../app.py", "/_flue/%2e%2e/app.py", "/_flue/static/app.js"])
async def test_no_other_file_is_served(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_a_file_cannot_be_posted_to(client: Client) -> None:
    headers = {"host": "localhost", "origin": "http://localhost"}
    assert (await client.post("/_flue/app.js", {}, **headers)).status == 405


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = FILES[name].replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w+|@import|url\(", text)


def test_the_document_has_no_scripts_styles_or_listeners_of_its_own() -> None:
    assert not re.findall(r"<style|<script>|\sstyle=|\son\w+=", FILES["index.html"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_never_becomes_markup(name: str) -> None:
    assert not SINKS.findall(FILES[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_imports_only_modules_that_are_there(name: str) -> None:
    imported = re.findall(r'^import .* from "(.*?)";$', FILES[name], re.MULTILINE)
    assert {source.removeprefix("./") for source in imported} <= set(SCRIPTS)
    assert all(source.startswith("./") for source in imported)


# ------------------------------------------------------------------------------------------------------ contrast

PAIRS = [
    *(("ink", back) for back in ("back", "card", "code", "user", "wait-back")),
    *(("soft", back) for back in ("back", "card", "code", "user")),
    *(("accent", back) for back in ("back", "card", "code", "wait-back")),
    *(("bad", back) for back in ("back", "card", "bad-back", "wait-back")),
    ("on-accent", "accent"),
    ("wait", "wait-back"),
    ("good", "good-back"),
]


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of the style sheet; those of the dark scheme replace the others."""
    light, dark = FILES["page.css"].split("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#\w+)", light))
    return {**found, **dict(re.findall(r"--([\w-]+): (#\w+)", dark))} if scheme == "dark" else found


def luminance(colour: str) -> float:
    """Return the relative luminance, as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    colour = colours(scheme)
    ratios = {}
    for front, back in PAIRS:
        low, high = sorted((luminance(colour[front]), luminance(colour[back])))
        ratios[front, back] = round((high + 0.05) / (low + 0.05), 2)
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}
