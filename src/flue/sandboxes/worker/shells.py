"""The shells of one sandbox's commands. The next one is made ahead, while there is nothing else to do.

Making one takes a millisecond. As a rule a command wants what the one before it wanted: directory, environment, time.
A shell serves one command, so that nothing of it reaches the next.
"""

from __future__ import annotations

from flue.sandboxes.bashkit_commands import scripts_folder
from flue.sandboxes.bashkit_files import BashkitFiles
from flue.sandboxes.bashkit_shell import mount, new_shell, require_directory

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from typing import Any

    from bashkit import Bash


class Shells:
    """Opens shells on a sandbox's files. `limits` are those of a command: commands and iterations of a loop.

    `network` is what a command may reach, as `bashkit_shell.new_shell` has it.
    """

    def __init__(self, files: BashkitFiles) -> None:
        self.limits = (1, 1)
        self.network: tuple[tuple[str, ...] | None, bool] | None = None
        self._files = files
        self._scripts = scripts_folder()
        self._wanted: dict[str, Any] | None = None
        self._ahead: Bash | None = None

    def open(self, cwd: str, env: dict[str, str], seconds: float) -> Bash:
        """Return a shell for a command. Raises `OSError` when `cwd` is no directory."""
        require_directory(self._files, cwd)
        ahead, self._ahead = self._ahead, None
        wanted = self._options(cwd, env, seconds)
        if ahead is None or wanted != self._wanted:
            self._wanted = wanted
            ahead = new_shell(**wanted)
        mount(ahead, self._files, self._scripts)
        return ahead

    def expect(self, cwd: str, seconds: float) -> None:
        """Take it that the next command will want this."""
        self._wanted, self._ahead = self._options(cwd, {}, seconds), None

    def open_ahead(self) -> None:
        """Make the next command's shell, if it is known what that may want."""
        if self._ahead is None and self._wanted is not None:
            try:
                self._ahead = new_shell(**self._wanted)
            except Exception:  # noqa: BLE001 - the command that needs one meets it again, and can tell of it
                self._wanted = None

    def _options(self, cwd: str, env: dict[str, str], seconds: float) -> dict[str, Any]:
        return {
            "cwd": cwd,
            "env": env,
            "commands": self.limits[0],
            "loop_iterations": self.limits[1],
            "seconds": seconds,
            "network": self.network,
            "builtins": {},
        }
