"""One of several processes that serve a project on one port, as it sees its supervisor (`flue.serve.supervisor`).

A worker inherits two descriptors: the socket that listens, which all of them accept from, and its channel, a socket
whose other end only the supervisor holds. On the channel the worker says that it answers, and what there is to say of
the project; its end is the supervisor's, whatever that died of.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Sequence

from flue.errors import ConfigError
from flue.serve.listening import Shared


class Channel:
    """A worker's end of what binds it to its supervisor."""

    def __init__(self, listening: int, descriptor: int) -> None:
        self.descriptor = descriptor
        self._listening = listening

    @classmethod
    def inherited(cls, text: str) -> Channel:
        """Return the channel that a supervisor's option names. Raises `ConfigError` where nothing was inherited."""
        try:
            listening, descriptor = map(int, text.split(","))
            for each in (listening, descriptor):
                os.set_inheritable(each, False)  # what the project starts has no part in it
        except (ValueError, OSError) as error:
            raise ConfigError("--worker is for processes that --workers starts.", code="invalid_arguments") from error
        return cls(listening, descriptor)

    def listening(self) -> socket.socket:
        """Return the listening socket."""
        found = socket.socket(fileno=self._listening)
        # With its protocol, which not every platform tells: see `listen`.
        return Shared(found.family, found.type, socket.IPPROTO_TCP, fileno=found.detach())

    def answers(self, lines: Sequence[str]) -> None:
        """Tell the supervisor that this process answers, and what to say of the project."""
        with contextlib.suppress(OSError):  # it has gone, which `Stop` is about to hear
            os.write(self.descriptor, json.dumps(list(lines)).encode() + b"\n")
