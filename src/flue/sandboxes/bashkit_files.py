"""The files of a bashkit sandbox: the directories that last, each a file system of its own or all in one, as one tree.

Facts about bashkit 0.20.1 that this module works around, each with a test in tests/sandboxes/test_bashkit_facts.py:
a new `FileSystem` is not empty; used directly it does not follow symlinks; its root can be removed; its errors are
`RuntimeError`s with a text.
"""

from __future__ import annotations

import errno

from flue.sandboxes.places import KEPT, kept_in

try:
    from posix import strerror
except ImportError:
    from os import strerror  # on Windows; elsewhere it would take two milliseconds of a worker's start

TYPE_CHECKING = False  # `typing` takes longer to import than everything else here, and workers start for a command
if TYPE_CHECKING:
    from typing import Any

    from bashkit import Bash, FileSystem

MAX_LINKS = 40
"""How many symlinks one path may go through, as on Linux (path_resolution(7))."""

# The texts of bashkit's file errors, in the order they are looked for.
_ERRORS = (
    ("not a directory", errno.ENOTDIR),
    ("is a directory", errno.EISDIR),
    ("directory not empty", errno.ENOTEMPTY),
    ("directory exists", errno.EEXIST),
    ("file exists", errno.EEXIST),
    ("not found", errno.ENOENT),
    ("Too many levels of symbolic links", errno.ELOOP),
    ("file too large", errno.EFBIG),
    ("filesystem full", errno.ENOSPC),
    ("too many files", errno.ENOSPC),
    ("too many directories", errno.ENOSPC),
    ("filename too long", errno.ENAMETOOLONG),
    ("path too long", errno.ENAMETOOLONG),
    ("path too deep", errno.ENAMETOOLONG),
    ("unsafe character", errno.EINVAL),
    ("read-only", errno.EROFS),
)
# Where commands put things, apart from the directories that last; in the others a shell has its own files.
_OPEN = ("/", "/home", "/root")
# These say more than the errno's own text: which limit, which character.
_TELLING = (errno.EFBIG, errno.ENOSPC, errno.ENAMETOOLONG, errno.EINVAL, errno.EIO)


def file_error(code: int, path: str, detail: str = "") -> OSError:
    """Return the `OSError` (of the subclass that belongs to `code`) for a path of the sandbox."""
    text = strerror(code)
    return OSError(code, f"{text} ({detail})" if detail else text, path)


class _named_errors:  # noqa: N801 - used as a function; `contextlib` takes milliseconds to import
    """Turns bashkit's errors into the `OSError` family, naming the path the caller asked for."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnicodeEncodeError):
            raise file_error(errno.EINVAL, self._path, "not valid Unicode") from None
        if isinstance(error, RuntimeError):
            text = str(error).removeprefix("io error: ")
            code = next((code for part, code in _ERRORS if part in text), errno.EIO)
            raise file_error(code, self._path, text if code in _TELLING else "") from None


class BashkitFiles:
    """The tree that commands see, for use from outside a command. Its methods never wait for a running command.

    Limits of each of the directories that last: 10,000,000 bytes a file, 100,000,000 bytes, 10,000 files and 10,000
    directories together, 100 levels, 255 bytes a name, no control characters in names. With `whole`, a file system as
    a shell has it, everything lies in that one and its limits hold for all that is written, wherever: see `tidy`.
    """

    def __init__(self, whole: FileSystem | None = None) -> None:
        # Where each directory that lasts lies, once something looked there: a file system, and the path in it.
        self._homes: dict[str, tuple[FileSystem, str]] = {}
        self._view = self._whole = whole
        self._system: dict[str, set[str]] = {}
        if whole is not None:
            self.prepare()
            self._system = {folder: _names(whole, folder) for folder in _OPEN}

    def mount_into(self, bash: Bash) -> None:
        """Let a shell see the files."""
        if self._whole is not None:
            self.prepare()
            bash.mount("/", self._whole)
            return
        for point in KEPT:
            bash.mount(point, self.kept(point))

    def prepare(self) -> None:
        """Make what is made when something looks there first."""
        for point in KEPT:
            self._home(point)

    def kept(self, point: str) -> FileSystem:
        """Return the file system of one of the directories that last, each of which has one of its own."""
        return self._home(point)[0]

    def tidy(self) -> None:
        """Remove what commands put beside the directories that last, where it would outlive them."""
        for folder, expected in self._system.items():
            assert self._whole is not None
            if self._whole.exists(folder):
                for name in _names(self._whole, folder) - expected:
                    self._whole.remove(_joined(folder, name), recursive=True)

    def copy_to(self, other: BashkitFiles) -> None:
        """Write what lies in the directories that last to other files, all but times. Raises `OSError` (ENOSPC)."""
        for point in KEPT:
            with _named_errors(point):
                _copy(*self._home(point), *other._home(point))

    def _home(self, point: str) -> tuple[FileSystem, str]:
        if point not in self._homes:
            self._homes[point] = (self._whole, point) if self._whole is not None else (_empty_file_system(), "/")
        files, root = self._homes[point]
        if not files.exists(root):
            # `rm -rf /workspace` took the root along; without one nothing can be listed.
            files.mkdir(root, recursive=root != "/")
        return files, root

    def read_file(self, path: str) -> bytes:
        """Return a file's bytes."""
        with _named_errors(path):
            files, inner = self._place(self._real_path(path, path))
            return files.read_file(inner)

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file, with its parents."""
        files, inner = self._kept_place(path, follow=True)
        if self._is_home(files, inner):
            raise file_error(errno.EISDIR, path)
        with _named_errors(path):
            try:
                files.write_file(inner, content)
                return
            except RuntimeError as error:
                if "not found" not in str(error):
                    raise
            try:
                files.mkdir(_split(inner)[0], recursive=True)
            except RuntimeError as error:
                # A file stands where a parent directory should be.
                raise file_error(errno.ENOTDIR, path) if "exists" in str(error) else error from None
            files.write_file(inner, content)

    def stat(self, path: str, *, follow: bool = False) -> tuple[str, int, float]:
        """Describe a path: its kind (`file`, `directory`, `symlink`), size and time of its last change."""
        with _named_errors(path):
            real = self._real_path(path, path, follow=follow)
            files, inner = self._place(real)
            # A shell's own file system follows a link here; what lists it does not.
            is_link = self._whole is not None and self._link_target(real) is not None
            found = _listed(files, inner) if is_link else files.stat(inner)
        return found["file_type"], found["size"], found["modified"]

    def is_directory(self, path: str, *, follow: bool) -> bool:
        """Say whether a path is a directory, or with `follow` leads to one. Raises `OSError` when it is missing."""
        return self.stat(path, follow=follow)[0] == "directory"

    def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        with _named_errors(path):
            real = self._real_path(path, path)
            if real in KEPT and self._whole is None and real not in self._homes:
                return []  # nothing has been put there, and most agents put nothing there
            files, inner = self._place(real)
            return sorted(entry["name"] for entry in files.read_dir(inner))

    def exists(self, path: str) -> bool:
        """Say whether a path leads to something."""
        try:
            self.stat(path, follow=True)
        except OSError:
            return False
        return True

    def mkdir(self, path: str, *, recursive: bool) -> None:
        """Create a directory."""
        if recursive and self.exists(path) and self.is_directory(path, follow=True):
            return
        files, inner = self._kept_place(path, follow=recursive)
        if self._is_home(files, inner):
            raise file_error(errno.EEXIST, path)
        with _named_errors(path):
            files.mkdir(inner, recursive=recursive)

    def rm(self, path: str, *, recursive: bool, force: bool) -> None:
        """Remove a file, a link, or with `recursive` a tree. The directories that last are only emptied."""
        try:
            is_directory = self.is_directory(path, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            if force:
                return
            raise
        if is_directory and not recursive:
            raise file_error(errno.EISDIR, path)
        files, inner = self._kept_place(path, follow=False)
        with _named_errors(path):
            if self._is_home(files, inner):
                _clear(files, inner)
            else:
                files.remove(inner, recursive=recursive)

    def _kept_place(self, path: str, *, follow: bool) -> tuple[FileSystem, str]:
        """Return where a path to be changed lies; `OSError` (EROFS) outside the directories that last."""
        place = self._mounted(self._real_path(path, path, follow=follow))
        if place is None:
            raise file_error(errno.EROFS, path, f"only {', '.join(KEPT)} keep files")
        return place

    def _place(self, real: str) -> tuple[FileSystem, str]:
        return self._mounted(real) or (self._whole_tree(), real)

    def _mounted(self, real: str) -> tuple[FileSystem, str] | None:
        point = kept_in(real)
        if point is None:
            return None
        files, root = self._home(point)
        return files, _joined(root, real[len(point) + 1 :]).rstrip("/") or "/"

    def _is_home(self, files: FileSystem, inner: str) -> bool:
        return (files, inner) in self._homes.values()

    def _real_path(self, path: str, asked: str, *, follow: bool = True) -> str:
        """Return the path with symlinks resolved, the last one only with `follow`."""
        pending, real, links = path.split("/")[::-1], "", 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                real = real.rpartition("/")[0]
                continue
            here = f"{real}/{part}"
            target = self._link_target(here) if pending or follow else None
            if target is None:
                real = here
                continue
            links += 1
            if links > MAX_LINKS:
                raise file_error(errno.ELOOP, asked)
            if target.startswith("/"):
                real = ""
            pending += target.split("/")[::-1]
        return real or "/"

    def _link_target(self, real: str) -> str | None:
        place = None if real in KEPT else self._mounted(real)
        if place is None:
            return None
        try:
            return place[0].read_link(place[1])
        except (RuntimeError, UnicodeEncodeError):
            return None

    def _whole_tree(self) -> FileSystem:
        """Return the tree as a shell sees it, for the parts that are the same for every command (`/etc`, `/bin`)."""
        if self._view is None:
            from bashkit import Bash

            shell = Bash()
            self.mount_into(shell)
            self._view = shell.fs()
        return self._view


def _empty_file_system() -> FileSystem:
    from bashkit import FileSystem

    files = FileSystem()
    _clear(files)
    return files


def _names(files: FileSystem, folder: str) -> set[str]:
    return {entry["name"] for entry in files.read_dir(folder)}


def _listed(files: FileSystem, path: str) -> dict[str, Any]:
    """Return what the directory of a path says of it."""
    folder, name = _split(path)
    found: dict[str, Any] = next(entry["metadata"] for entry in files.read_dir(folder) if entry["name"] == name)
    return found


def _clear(files: FileSystem, folder: str = "/") -> None:
    for name in _names(files, folder):
        files.remove(_joined(folder, name), recursive=True)


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _split(path: str) -> tuple[str, str]:
    """Return a path's folder and its name in it."""
    folder, _, name = path.rpartition("/")
    return folder or "/", name


def _copy(source: FileSystem, folder: str, target: FileSystem, into: str) -> None:
    for entry in source.read_dir(folder):
        path, copy, found = (
            _joined(folder, entry["name"]),
            _joined(into, entry["name"]),
            entry["metadata"],
        )
        if found["file_type"] == "symlink":
            target.symlink(source.read_link(path), copy)
            continue
        if found["file_type"] == "directory":
            target.mkdir(copy)
            _copy(source, path, target, copy)
        else:
            target.write_file(copy, source.read_file(path))
        target.chmod(copy, found["mode"])
