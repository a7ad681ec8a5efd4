"""`python -m benchmarks.counted COMMAND …`: the command `flue`, which tells at its end how often SQLite committed.

A commit of this store is one sync of the disk.
"""

from __future__ import annotations

import functools
import resource
import sqlite3
import sys
from typing import Any

COMMITS = 0


class Counting(sqlite3.Connection):
    """A connection that counts; one that only reads begins its transactions in another way."""

    writes = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        if sql == "BEGIN IMMEDIATE":
            self.writes = True
        elif sql == "COMMIT" and self.writes:
            global COMMITS  # noqa: PLW0603 - one count for the process
            COMMITS += 1
        return super().execute(sql, parameters)


if __name__ == "__main__":
    from flue.cli.main import main

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    vars(sqlite3)["connect"] = functools.partial(sqlite3.connect, factory=Counting)
    code = main(sys.argv[1:])
    print(COMMITS)
    sys.exit(code)
