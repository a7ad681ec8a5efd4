from __future__ import annotations

import asyncio
import gc
import threading

from flue.serve.process import Stop


def test_while_a_process_serves_its_many_lasting_objects_are_rarely_looked_through() -> None:
    before, while_serving = gc.get_threshold(), []

    async def serve(_: Stop) -> None:
        while_serving.append(gc.get_threshold())

    assert Stop().run(serve) == 0
    assert while_serving[0][0] >= 10_000
    assert (while_serving[0][1:], gc.get_threshold()) == (before[1:], before)


def test_much_may_block_at_a_time() -> None:
    together = threading.Barrier(40)

    async def serve(_stop: Stop) -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait, 10) for _ in range(40)))

    assert Stop().run(serve) == 0
