"""The files of a place that is reached through scripts."""

from __future__ import annotations

import errno
import posixpath
import shlex
import stat as stat_bits

from flue.ports import FileStat
from flue.sandboxes.remote_shell import LARGE, RemoteShell, ask, encoded, new_token

LARGEST = 16 * 1024 * 1024
"""Bytes of the largest file that is read or written as a whole: a Worker has 128 MB and holds content several times."""

_STAT = "stat -c '%f %s %Y' -- \"$p\""
# cd, unlike a glob, says what is wrong.
_LIST = """cd -P -- "$p" || exit 1
[ -r . ] || { echo 'Permission denied'; exit 1; }
shopt -s dotglob nullglob
for name in *; do printf '%s\\0' "$name"; done"""
# A pipe or a device may have no end.
_READ = f"""[ -d "$p" ] && {{ echo 'Is a directory'; exit 1; }}
[ -e "$p" ] && [ ! -f "$p" ] && {{ echo 'Invalid argument'; exit 1; }}
stat -L -c %s -- "$p" || exit 1
head -c {LARGE} -- "$p\""""
_PREPARE = """[ -d "$p" ] && { echo 'Is a directory'; exit 1; }
[ -e "$d" ] && [ ! -d "$d" ] && { echo 'Not a directory'; exit 1; }
if ! said=$(mkdir -p -- "$d" 2>&1); then
  case $said in *'File exists') echo 'Not a directory';; *) printf '%s\\n' "$said";; esac
  exit 1
fi"""
# $t has the content. A new file is there with all of it or not at all; of one that exists, links and rights stay.
_STORE = """if [ -e "$p" ] || [ -L "$p" ]; then cat <"$t" >"$p"; else mv -- "$t" "$p"; fi
said=$?
rm -f "$t"
exit $said"""
_REMOVE = """if [ -L "$p" ] || [ ! -d "$p" ]; then
  if [ -L "$p" ] || [ -e "$p" ] || [ -z "$force" ]; then rm -- "$p"; fi
elif [ -z "$recursive" ]; then echo 'Is a directory'; exit 1
else rm -rf -- "$p"; fi"""


async def read_file(shell: RemoteShell, path: str) -> bytes:
    """Return a whole file. Raises `OSError`: with `EFBIG` beyond `LARGEST`."""
    size, _, content = (await ask(shell, _READ, path)).partition(b"\n")
    if len(content) < LARGE or int(size) == LARGE:  # files of /proc say that their size is 0
        return content
    if int(size) > LARGEST:
        raise OSError(errno.EFBIG, f"Larger than {LARGEST:,} bytes: read a part of it with a command", path)
    return await shell.download(path)


async def write_file(shell: RemoteShell, path: str, content: bytes) -> None:
    """Write a whole file, parents included. Raises `OSError`: with `EFBIG` beyond `LARGEST`."""
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"More than {LARGEST:,} bytes: write it in parts", path)
    content_at = f"/tmp/.flue-{new_token()}"  # noqa: S108 - over there
    given = f"d={shlex.quote(posixpath.dirname(path))} t={content_at}"
    if len(content) <= LARGE:
        decoded = f"printf %s '{encoded(content)}' | base64 -d >\"$t\" || exit 1"
        await ask(shell, f"{given}\n{_PREPARE}\n{decoded}\n{_STORE}", path)
    else:
        # What is wrong with the path is said before the content is sent.
        await ask(shell, f"{given}\n{_PREPARE}", path)
        await shell.upload(content_at, content)
        await ask(shell, f"{given}\n{_STORE}", path)


async def stat(shell: RemoteShell, path: str) -> FileStat:
    """Describe a path without following a final symlink."""
    mode, size, changed = (await ask(shell, _STAT, path)).split()
    bits = int(mode, 16)
    kinds = stat_bits.S_ISREG(bits), stat_bits.S_ISDIR(bits), stat_bits.S_ISLNK(bits)
    return FileStat(*kinds, int(size), float(changed))


async def readdir(shell: RemoteShell, path: str) -> list[str]:
    """Return the names in a directory, sorted; bytes that are not UTF-8 become U+FFFD."""
    names = (await ask(shell, _LIST, path)).decode("utf-8", errors="replace")
    return sorted(names.split("\0")[:-1])


async def exists(shell: RemoteShell, path: str) -> bool:
    """Say whether the path leads to something."""
    return (await ask(shell, '[ -e "$p" ] && echo yes; true', path)) == b"yes\n"


async def mkdir(shell: RemoteShell, path: str, *, recursive: bool) -> None:
    """Create a directory."""
    await ask(shell, f'mkdir {"-p " if recursive else ""}-- "$p"', path)


async def rm(shell: RemoteShell, path: str, *, recursive: bool, force: bool) -> None:
    """Remove a file, or with `recursive` a tree."""
    await ask(shell, f"recursive={'1' if recursive else ''} force={'1' if force else ''}\n{_REMOVE}", path)
