"""Functions of the C library, called as `ctypes` calls them: by what it is made of, without the rest of it.

`ctypes` itself takes three milliseconds to import, which is a tenth of what a sandbox has to begin from nothing.
"""

from __future__ import annotations

import _ctypes

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from typing import Any

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "L"


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL


def function(name: str) -> Any:
    """Return a function of this process by its name, None when there is none. Numbers are to be `long`s."""
    this_process: Any = None
    try:
        return _Function(_ctypes.dlsym(_ctypes.dlopen(this_process, 0), name))
    except OSError:
        return None


def use_little_memory() -> None:
    """Have the C library reserve no more memory than is used. Comes before the first thread but the main one."""
    mallopt = function("mallopt")
    if mallopt is not None:
        # One arena: with one a thread, glibc would reserve 64 MB of address space for each.
        mallopt(_M_ARENA_MAX, 1)
        # And what is large lies by itself, and goes back to the system.
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def long(value: int) -> Any:
    """Return a number as an argument of 64 bits."""
    return _Long(value)


class Memory:
    """Bytes at an address that stays."""

    def __init__(self, content: bytes) -> None:
        kind: Any = type("Bytes", (_ctypes.Array,), {"_type_": _Byte, "_length_": len(content)})
        self._held = kind()
        self._held.raw = content
        self.address = _ctypes.addressof(self._held)
