"""What an engine that takes nothing over is to do: the work that was accepted or adopted here, by id and lane."""

from __future__ import annotations


class Expected:
    """Submissions that are to be done here and are not known to have ended."""

    def __init__(self) -> None:
        self._lanes: dict[str, str] = {}
        self._ending: dict[str, str] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids, in the order they came."""
        return (*self._lanes, *self._ending)

    @property
    def lanes(self) -> frozenset[str]:
        """Return the lanes in which something may have to be claimed."""
        return frozenset(self._lanes.values())

    def add(self, id: str, lane: str) -> None:
        """Expect a submission."""
        self._lanes[id] = lane

    def discard(self, id: str) -> None:
        """Expect a submission no longer."""
        self._lanes.pop(id, None)
        self._ending.pop(id, None)

    def ending(self, id: str) -> bool:
        """Say whether a submission was expected, which is about to end.

        From here on nothing is claimed for its sake: what comes after it in its lane may be nothing of ours.
        """
        lane = self._lanes.pop(id, None)
        if lane is not None:
            self._ending[id] = lane
        return lane is not None

    def rested(self, id: str, *, ended: bool) -> None:
        """Take note that an attempt is over; what did not end after all is expected again."""
        lane = self._ending.pop(id, None)
        if ended:
            self._lanes.pop(id, None)
        elif lane is not None:
            self._lanes[id] = lane
