"""A real Postgres for a test session, on a Unix socket in a directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

INSTALL = "apt-get install -y --no-install-recommends postgresql"


def find_binaries() -> Path | None:
    """Return the directory of the newest Postgres from 15 on, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres") if int(path.parts[-3]) >= 15]
    on_path = shutil.which("postgres")
    return max(found, key=lambda path: int(path.parts[-2])) if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """Starts on `start()`; `restart()` ends it without a shutdown, as a crash would."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Not below pytest's directory: the path of a Unix socket has at most 107 bytes.
        self._root = Path(tempfile.mkdtemp(prefix="flue-pg-"))
        self._data = self._root / "data"
        # initdb refuses to run as root.
        self._as_user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        )
        if self._as_user:
            shutil.chown(self._root, "postgres", "postgres")
        self._root.chmod(0o755)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"postgresql:///postgres?host={self._root}&user=postgres"

    def start(self) -> None:
        """Make the cluster and start it."""
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        self._ctl("start")

    def restart(self) -> None:
        """Crash and recover."""
        self._ctl("restart", "--mode=immediate")

    def stop(self) -> None:
        """End it and delete its data."""
        self._ctl("stop", "--mode=immediate")
        shutil.rmtree(self._root)

    def _ctl(self, command: str, *options: str) -> None:
        settings = f"-c listen_addresses= -c unix_socket_directories={self._root} -c max_connections=200"
        # A log file, because the server would keep a pipe open for as long as it runs.
        self._run("pg_ctl", "--wait", f"--log={self._root / 'log'}", f"--options={settings}", *options, command)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / program), f"--pgdata={self._data}", *arguments]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
