"""Runs a command and ends it with all that it started, a program of its own (BLD-04): `python guard.py COMMAND …`.

It ends when its standard input does, which happens whatever becomes of the process that holds the other end. It has to
be the leader of a process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL."""


def main(command: list[str]) -> int:
    """Run the command and return its exit code."""
    # Signals to the whole group are for the others; what is started has them as usual.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    code = child.wait()
    # What it started may still be there.
    os.killpg(0, signal.SIGTERM)
    return code


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    end = time.monotonic() + TERM_SECONDS
    while child.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
