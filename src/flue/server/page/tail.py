"""The events of some types, as they reach the disk.

`LogReader.follow` gives every event, and each piece of an answer with all that came before it; to leave those out when
they have been made costs the more the longer an answer is. Here they are never made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from flue.durable.records import Wake
from flue.engine.logged import LoggedEvent
from flue.engine.service import Service

_PAGE = 500
# A wake-up may be lost with a connection; so long at most nobody looks.
_LOOK_SECONDS = 15.0


async def tail(service: Service, id: str, types: frozenset[str], *, after: int) -> AsyncGenerator[LoggedEvent, None]:
    """Yield the events of a prompt or a run after an index, and go on as they come until it has settled.

    Pieces of answers come a few at a time, as they are written: a quarter of a second late at most. Ends at once for
    unknown work. Raises `DurabilityError`.
    """
    changed = asyncio.Event()

    def on_wake(wake: Wake) -> None:
        if wake.kind != "events" or wake.key in ("", id):
            changed.set()

    unlisten = service.store.listen(on_wake)
    try:
        while True:
            changed.clear()
            submission = await service.get_submission(id)
            settled = submission is None or submission.state == "settled"
            while page := await service.log.read(id, after=after, types=types, limit=_PAGE):
                for event in page:
                    after = event.index
                    yield event
            if settled:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await changed.wait()
    finally:
        unlisten()
