"""bash in a place that is reached through a provider's calls only, and how scripts there answer exactly.

Providers hand over what a command printed as text, some of them line by line. What a script of ours has to say is
therefore encoded: one line between two marks, bytes as base64, which comes through whatever a provider does to text.
"""

from __future__ import annotations

import base64
import errno
import re
import secrets
import shlex
from collections.abc import Mapping
from typing import Protocol

from flue.errors import SandboxError

LARGE = 32 * 1024
"""Bytes up to which content travels inside a script or its answer; beyond, as a file."""

# Both what glibc and what musl say; scripts set LC_ALL=C.
_ERRORS = {
    "No such file or directory": errno.ENOENT,
    "Not a directory": errno.ENOTDIR,
    "Is a directory": errno.EISDIR,
    "File exists": errno.EEXIST,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "Too many levels of symbolic links": errno.ELOOP,
    "Symbolic link loop": errno.ELOOP,
    "File name too long": errno.ENAMETOOLONG,
    "Filename too long": errno.ENAMETOOLONG,
    "Directory not empty": errno.ENOTEMPTY,
    "Invalid argument": errno.EINVAL,
    "File too large": errno.EFBIG,
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Device or resource busy": errno.EBUSY,
    "Resource busy": errno.EBUSY,
    "Text file busy": errno.ETXTBSY,
    "Argument list too long": errno.E2BIG,
    "Input/output error": errno.EIO,
    "I/O error": errno.EIO,
}


class RemoteShell(Protocol):
    """What a provider must offer so that `RemoteSandbox` can do the rest.

    Needed over there: bash 4.4 or newer, and base64, cat, head, mkdir, rm, stat, truncate and wc, from GNU or busybox.
    """

    @property
    def title(self) -> str:
        """Return the place as messages name it, for example `Container "ann"`."""
        ...

    async def run(self, script: str, *, env: Mapping[str, str] | None = None, brief: bool = True) -> str:
        """Run a script of at most 100 KiB in bash and return what it wrote to stdout, which is ASCII.

        `brief` says that it ends within milliseconds; others must not keep anything waiting. Its status is of no
        interest. Raises `SandboxError` when the script cannot be run, or what it printed does not arrive.
        """
        ...

    async def download(self, path: str) -> bytes:
        """Return a regular file. Raises `SandboxError`."""
        ...

    async def upload(self, path: str, content: bytes) -> None:
        """Write a file whose directory exists. Raises `SandboxError`."""
        ...


def new_token() -> str:
    """Return what tells one script's answer, and its files, from all others."""
    return secrets.token_hex(8)


def encoded(content: bytes) -> str:
    """Return bytes as a script may hold them in single quotes."""
    return base64.b64encode(content).decode("ascii")


async def ask(shell: RemoteShell, body: str, path: str) -> bytes:
    """Run the lines of `body`, in which `$p` is the path, and return the bytes they print.

    Raises the `OSError` that the last line printed stands for, with the path, when they end with a status that is not
    zero, and `SandboxError`.
    """
    token = new_token()
    script = (
        f"printf 'flue:{token}:'; {{\nexport LC_ALL=C\np={shlex.quote(path)}\n{body}\n}} </dev/null 2>&1 | base64 -w0; "
        "printf ':%s:\\n' \"${PIPESTATUS[0]}\""
    )
    printed, status = answer(shell, await shell.run(script), token)
    content = base64.b64decode(printed)
    if status != "0":
        raise file_error(content.decode("utf-8", errors="replace"), path)
    return content


def answer(shell: RemoteShell, printed: str, token: str) -> list[str]:
    """Return the fields of a script's answer. Raises `SandboxError` when there is none."""
    found = find_answer(printed, token)
    if found is None:
        raise SandboxError(
            f"{shell.title}: what a script answered cannot be understood: {printed[-200:]!r}",
            code="sandbox_no_answer",
            hint="The image needs bash 4.4 or newer, base64 and the usual file commands.",
        )
    return found


def find_answer(printed: str, token: str) -> list[str] | None:
    """Return the fields of a script's answer, or None when it did not get so far."""
    found = re.search(rf"^flue:{token}:(.*):$", printed, re.MULTILINE)
    return found[1].split(":") if found else None


def file_error(said: str, path: str) -> OSError:
    """Return the error for what a file command said, with the path in its message."""
    lines = said.strip().splitlines() or ["Input/output error"]
    reason = lines[-1].rpartition(": ")[2]
    number = _ERRORS.get(reason)
    return OSError(errno.EIO, lines[-1], path) if number is None else OSError(number, reason, path)
