from __future__ import annotations

import gc

from flue.serve.process import Stop


def test_while_a_process_serves_its_many_lasting_objects_are_rarely_looked_through() -> None:
    before, while_serving = gc.get_threshold(), []

    async def serve(_: Stop) -> None:
        while_serving.append(gc.get_threshold())

    assert Stop().run(serve) == 0
    assert while_serving[0][0] >= 10_000
    assert (while_serving[0][1:], gc.get_threshold()) == (before[1:], before)
