"""How evenly the machine runs. One that is shared may do a tenth of its usual work for 50 ms, every second or so.

What takes long in such a moment says nothing of the code. So a process beside the measured one does the same small
piece of work a thousand times a second, and notes how much longer than usual that took: by its own CPU time, so that
whoever else wants the core does not count. It takes some 4 % of a core.

`python -m benchmarks.pace` is that process: it prints what it noted when its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

EVERY = 0.001  # seconds


class Pace:
    """A clock that slows down with the machine; it can be read once `watched` has ended."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._even: list[float] = []

    def note(self, noted: list[tuple[float, float]]) -> None:
        """Take over when the piece of work was done (`time.perf_counter`), and the CPU seconds that it took."""
        usual = median(took for _, took in noted)
        self._at, self._even = [noted[0][0]], [0.0]
        for (at, took), (following, _) in pairwise(noted):
            self._at.append(following)
            self._even.append(self._even[-1] + (following - at) / max(took / usual, 1.0))

    def ms(self, began: float, ended: float) -> float:
        """Return how long that would have taken had the machine run as it usually does."""
        return (self._read(ended) - self._read(began)) * 1000

    @property
    def lost(self) -> float:
        """The part of the machine's work that it did not do because it was slow."""
        return 1 - self._even[-1] / (self._at[-1] - self._at[0])

    def _read(self, moment: float) -> float:
        before = max(min(bisect_right(self._at, moment), len(self._at) - 1), 1) - 1
        (at, following), (even, then) = self._at[before : before + 2], self._even[before : before + 2]
        return even + (moment - at) * (then - even) / (following - at)


@contextmanager
def watched() -> Iterator[Pace]:
    """Watch the machine's pace from here to the end of the block."""
    pace, command = Pace(), [sys.executable, "-m", "benchmarks.pace"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield pace
        finally:
            printed, _ = process.communicate("")
    pace.note(json.loads(printed))


def _watch() -> list[tuple[float, float]]:
    given = threading.Thread(target=sys.stdin.read, daemon=True)  # ends when nobody needs it any longer
    given.start()
    noted: list[tuple[float, float]] = []
    while given.is_alive() or len(noted) < 2:
        at, before = time.perf_counter(), time.thread_time()
        _ = {number: str(number) for number in range(150)}
        noted.append((at, time.thread_time() - before))
        time.sleep(EVERY)
    return noted


if __name__ == "__main__":
    print("watching", flush=True)
    print(json.dumps(_watch()))
