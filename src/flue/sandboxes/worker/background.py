"""Work in a second thread, before there is anything that such a thread must not see (no script, no confinement)."""

from __future__ import annotations

import _thread
import posix
import time

from flue.sandboxes.worker.c_library import function

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from collections.abc import Callable

_THREADS = "/proc/self/task"
_RTLD_NOW = 2


def in_background(work: Callable[[], object]) -> Callable[[], None]:
    """Have something done; return what waits for its end, after which this process can be forked again."""

    def run() -> None:
        try:
            work()
        finally:
            done.release()

    def wait() -> None:
        done.acquire()
        # One that has told may still end. Not all systems let that be seen.
        while posix.access(_THREADS, posix.R_OK) and len(posix.listdir(_THREADS)) > 1:
            time.sleep(0.0001)

    # `threading` takes longer to import than the rest of this package.
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(run, ())
    return wait


def load_ahead(library: str) -> Callable[[], None]:
    """Have a library loaded, which takes milliseconds of a second core. Return what waits for it.

    Whoever imports it meanwhile waits for it, too, and meets what is wrong with it.
    """
    dlopen = function("dlopen")
    return in_background(lambda: dlopen(library.encode(), _RTLD_NOW))
