from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from flue.errors import ConfigError
from flue.server.lifespan import Lifespan


async def test_an_application_starts_gives_its_state_and_ends() -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[dict[str, str]]:
        happened.append("up")
        yield {"database": "open"}
        happened.append("down")

    lifespan = Lifespan(Starlette(lifespan=around))
    await lifespan.start()
    assert (happened, lifespan.state) == (["up"], {"database": "open"})
    await lifespan.end()
    assert happened == ["up", "down"]


async def test_an_application_that_cannot_start_says_why() -> None:
    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[None]:
        if app is not None:
            raise ValueError("no database")
        yield

    lifespan = Lifespan(Starlette(lifespan=around))
    with pytest.raises(ConfigError, match="ValueError: no database") as caught:
        await lifespan.start()
    assert caught.value.code == "app_failed"
    await lifespan.end()


async def test_an_application_without_a_lifespan_is_left_alone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("http only")

    lifespan = Lifespan(app)
    await lifespan.start()
    await lifespan.end()
    assert lifespan.state == {}


async def test_an_end_that_takes_too_long_is_given_up_by_cancelling_it() -> None:
    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[None]:
        yield
        await asyncio.sleep(1000)

    lifespan = Lifespan(Starlette(lifespan=around))
    await lifespan.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lifespan.end(), 0.01)
