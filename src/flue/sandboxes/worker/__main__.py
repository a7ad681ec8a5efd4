"""Start a fork server: `python -I -S worker/__main__.py`.

Its standard input is a socket to the program that started it, which first sends the modules to run; looking for them
here would take longer. They come in parts, each with its length before it in eight bytes: what loads a library in the
background, the path of that library (bashkit's), and all the rest.
"""

import gc
import marshal
import sys
from posix import read

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from typing import Any


def receive(size: int) -> bytes:
    """Return so many bytes of standard input."""
    data = b""
    while len(data) < size:
        piece = read(0, size - len(data))
        if not piece:
            sys.exit()
        data += piece
    return data


def part() -> "Any":
    """Return the next part."""
    return marshal.loads(receive(int.from_bytes(receive(8), "little")))  # noqa: S302 - our own program's


def run(modules: "list[Any]") -> None:
    """Make modules of their names, the folders that make them packages, and their code."""
    for name, folders, code in modules:
        module = sys.modules[name] = type(sys)(name)
        if folders:
            module.__path__ = folders
        exec(code, module.__dict__)  # noqa: S102


gc.disable()  # until all is loaded: there is no garbage yet
run(part())
sys.modules["flue.sandboxes.worker.c_library"].use_little_memory()
wait = sys.modules["flue.sandboxes.worker.background"].load_ahead(part())
run(part())
wait()
sys.modules["flue.sandboxes.worker.fork_server"].serve(0)
