from __future__ import annotations

import asyncio

import pytest

from flue.testing import VirtualClock


async def test_time_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock()
    assert clock.now_ms() == 1_767_225_600_000
    assert clock.monotonic() == 0
    await clock.advance(1.5)
    assert clock.now_ms() == 1_767_225_601_500
    assert clock.monotonic() == 1.5


async def test_sleepers_wake_in_order_each_at_its_own_time() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(*arguments)) for arguments in (("b", 3), ("a", 1, 1, 1.5), ("c", 20))]
    await clock.advance(10)
    assert woken == [("a", 1), ("a", 2), ("b", 3), ("a", 3.5)]
    await clock.advance(9.5)
    assert (len(woken), clock.sleeping, clock.monotonic()) == (4, 1, 19.5)
    await clock.advance(0.5)
    assert woken[4:] == [("c", 20)]
    await asyncio.gather(*tasks)


async def test_tasks_run_before_time_moves_even_if_they_wake_each_other() -> None:
    clock = VirtualClock()
    queue: asyncio.Queue[int] = asyncio.Queue()
    seen: list[float] = []

    async def chain() -> None:
        for _ in range(5):
            await queue.get()
        seen.append(clock.monotonic())

    async def feed() -> None:
        await clock.sleep(1)
        for n in range(5):
            await queue.put(n)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(chain()), asyncio.create_task(feed())]
    await clock.advance(60)
    assert seen == [1]
    await asyncio.gather(*tasks)


async def test_a_cancelled_sleeper_does_not_hold_the_time() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.advance(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeping == 0
    await clock.advance(10)
    assert clock.monotonic() == 11


@pytest.mark.parametrize("auto", [True, False])
async def test_a_sleep_of_nothing_ends_at_once(auto: bool) -> None:
    clock = VirtualClock(auto=auto)
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.monotonic() == 0


async def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        await VirtualClock().advance(-1)


async def test_an_automatic_clock_jumps_from_sleep_to_sleep_in_order() -> None:
    clock = VirtualClock(auto=True)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic()))

    await asyncio.gather(sleeper("long", 3600), sleeper("short", 1, 1, 1))
    assert woken == [("short", 1), ("short", 2), ("short", 3), ("long", 3600)]
    await clock.sleep(5)
    assert clock.monotonic() == 3605


async def test_a_task_that_is_done_first_beats_an_automatic_timeout() -> None:
    clock = VirtualClock(auto=True)

    async def work() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    timeout, worker = asyncio.create_task(clock.sleep(30)), asyncio.create_task(work())
    finished, _ = await asyncio.wait([timeout, worker], return_when=asyncio.FIRST_COMPLETED)
    assert finished == {worker}
    timeout.cancel()
    await asyncio.gather(timeout, return_exceptions=True)
