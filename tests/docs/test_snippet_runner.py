from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, Field

from tests.docs.page import Page, matches
from tests.docs.sample_answers import example_of
from tests.docs.snippets import SnippetError, read_blocks

FENCE = "```"


@pytest.fixture
def run(tmp_path: Path, open_page: Callable[[Path], Page]) -> Callable[[str], int]:
    def write_and_run(text: str) -> int:
        page = tmp_path / "page.md"
        page.write_text(text.replace("~~~", FENCE), encoding="utf-8")
        return open_page(page).run()

    return write_and_run


def test_python_blocks_share_a_namespace_and_an_event_loop(run: Callable[[str], int]) -> None:
    page = """
~~~python
import asyncio
future = asyncio.get_running_loop().create_future() if False else None
loop = await asyncio.sleep(0) or asyncio.get_running_loop()
~~~
~~~python
await asyncio.sleep(0)
assert loop is asyncio.get_running_loop()
~~~
"""
    assert run(page) == 2


def test_a_failing_block_fails_the_page_at_its_line(run: Callable[[str], int]) -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run("# Title\n\n~~~python\nx = 1\nx / 0\n~~~\n")
    assert failure.traceback[-1].lineno + 1 == 5


def test_a_hidden_setup_runs_before_what_readers_see(run: Callable[[str], int]) -> None:
    assert run("<!-- setup\nx = 1\n-->\n~~~python\nassert x == 1\n~~~\n") == 2


def test_a_skipped_block_does_not_run(run: Callable[[str], int]) -> None:
    assert run("<!-- skip: would fail -->\n~~~python\n1 / 0\n~~~\n") == 0


def test_a_file_block_is_written_and_can_be_run(run: Callable[[str], int]) -> None:
    page = """
<!-- file: app/hello.py -->
~~~python
import sys
print("hello", sys.stdin.read(), end="\\n")
print("noise", file=sys.stderr)
~~~
<!-- run: python app/hello.py -->
<!-- stdin: you -->
~~~console
$ python app/hello.py
hello you
~~~
"""
    assert run(page) == 2


def test_a_file_block_must_be_valid_python(run: Callable[[str], int]) -> None:
    with pytest.raises(SyntaxError):
        run("<!-- file: x.py -->\n~~~python\ndef\n~~~\n")


@pytest.mark.parametrize(("shown", "printed"), [("6", "7"), ("7\n8", "7")])
def test_wrong_output_fails_the_page(shown: str, printed: str, run: Callable[[str], int]) -> None:
    page = f"~~~python\nprint({printed})\n~~~\n<!-- output -->\n~~~text\n{shown}\n~~~\n"
    with pytest.raises(AssertionError, match="but it printed"):
        run(page)


def test_a_command_must_be_the_one_that_the_page_shows(run: Callable[[str], int]) -> None:
    with pytest.raises(AssertionError, match="shows 'flue run b'"):
        run("<!-- run: flue run a -->\n~~~console\n$ flue run b\n~~~\n")


def test_a_command_that_exits_with_an_error_fails_the_page(run: Callable[[str], int]) -> None:
    page = "<!-- file: x.py -->\n~~~python\nraise SystemExit(3)\n~~~\n<!-- run: python x.py -->\n~~~text\n~~~\n"
    with pytest.raises(AssertionError, match="exit status 3"):
        run(page)


def test_a_command_that_cannot_be_run_offline_must_be_skipped(run: Callable[[str], int]) -> None:
    with pytest.raises(SnippetError, match="cannot be run"):
        run("<!-- run: curl localhost -->\n~~~text\n~~~\n")


def test_a_reply_that_nothing_asked_for_fails_the_page(run: Callable[[str], int]) -> None:
    with pytest.raises(AssertionError, match="2 replies"):
        run("<!-- reply: [[say one]] [[then]] [[say two]] -->\n~~~python\npass\n~~~\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("~~~python\n", "never closed"),
        ("<!-- setup\nx = 1\n", "never closed"),
        ("<!-- skip: -->\n~~~python\n~~~\n", "says nothing"),
        ("<!-- skip -->\n~~~python\n~~~\n", "says nothing"),
        ("<!-- file: x -->\nText.\n", "before no block"),
        ("<!-- file: x -->\n", "before no block"),
        ("<!-- file: x -->\n<!-- file: y -->\n~~~text\n~~~\n", "a second 'file'"),
    ],
)
def test_a_page_written_wrongly_is_refused(text: str, problem: str, run: Callable[[str], int]) -> None:
    with pytest.raises(SnippetError, match=problem):
        run(text)


def test_indented_and_longer_fences_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("1. First\n\n   ```python\n   if x:\n       y\n   ```\n\n````md\n```\n````\n", encoding="utf-8")
    assert [(block.language, block.text) for block in read_blocks(page)] == [
        ("python", "if x:\n    y\n"),
        ("md", "```\n"),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\n", "a", True),
        ("run:1…\n", "run:123\nmore", True),
        ("{ ... }", "{ 1 }", True),
        ("a", "b", False),
        ("a…c", "a b", False),
        ("", "noise", False),
    ],
)
def test_an_ellipsis_stands_for_anything(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


class Part(BaseModel):
    name: str = Field(min_length=10)
    count: int = Field(ge=5)


class Whole(BaseModel):
    parts: list[Part]
    maybe: Part | None
    flag: bool = False


@pytest.mark.parametrize("schema", [Whole.model_json_schema(), {"type": "object"}, {"enum": ["a"]}, {"type": "null"}])
def test_the_sample_answer_fits_the_schema(schema: Any) -> None:
    jsonschema.validate(example_of(schema), schema)
