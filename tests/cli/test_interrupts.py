from __future__ import annotations

import asyncio
import os
import signal

import pytest

from flue.cli.interrupts import Interrupts

HANDLERS = (signal.SIGINT, signal.SIGTERM)


def wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


@pytest.mark.parametrize("number", HANDLERS)
def test_a_signal_ends_the_command_and_leaves_no_handler_behind(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in HANDLERS]
    put_in_order = []

    async def command() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            put_in_order.append(True)
        return 0

    assert Interrupts().run(command()) == 128 + number
    assert put_in_order
    assert [signal.getsignal(each) for each in HANDLERS] == before
    assert wakeup_fd() == -1


def test_a_signal_wakes_a_loop_that_is_just_about_to_wait() -> None:
    """The moment cannot be met; that the interpreter itself writes to the loop's pipe then can be seen."""

    async def command() -> int:
        return wakeup_fd()

    assert Interrupts().run(command()) != -1
