"""Runs a command and ends it with all that it started (BLD-04): `python guard.py SECONDS COMMAND …`.

It ends when its standard input does, which happens whatever becomes of the process that holds the other end, or when
the command does. Either way, what is left of the command's process group gets SIGTERM and, SECONDS later, SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL, if nobody says otherwise."""

# For the system to take away what was killed; where nothing collects the dead, they stay in the group.
_KILL_SECONDS = 0.5
_POLL = 0.02


def main(seconds: float, command: list[str]) -> int:
    """Run the command and return its exit code once nothing of it is left."""
    # It outlives what it guards.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
    threading.Thread(target=_end_with_input, args=(child.pid, seconds), daemon=True).start()
    code = child.wait()
    # What it started may still be there.
    _end(child.pid, seconds)
    return code


def _end_with_input(group: int, seconds: float) -> None:
    while os.read(0, 4096):
        pass
    _end(group, seconds)


def _end(group: int, seconds: float) -> None:
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
        end = time.monotonic() + patience
        there = _signal(group, number)
        while there and time.monotonic() < end:
            time.sleep(_POLL)
            there = _signal(group, 0)
        if not there:
            return


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; say whether anything is there to get it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses it when only the dead are left
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
