from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from flue.dev.blocked import watching_the_loop

HERE = Path(__file__).resolve().parent


def block(until: threading.Event) -> None:
    assert until.wait(10)


async def test_who_blocks_the_loop_is_named_once_with_its_line() -> None:
    said, heard = list[str](), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        heard.set()

    with watching_the_loop(HERE, say, after=0.02):
        block(heard)
        heard.clear()
        await asyncio.sleep(0)
        assert heard.wait(10)  # another function
        block(heard)
    line = block.__code__.co_firstlineno + 1
    assert said[0].startswith(f"test_blocked.py:{line}, in block: for 0.02 s nothing else")
    assert len(said) == 2


async def test_a_loop_that_waits_and_what_is_not_of_the_project_are_not_complained_of() -> None:
    said, again = list[str](), threading.Event()
    with watching_the_loop(HERE / "elsewhere", said.append, after=0.02):
        await asyncio.to_thread(again.wait, 0.1)
        again.wait(0.1)
    assert said == []
