"""Start a fork server: `python -I -S worker/__main__.py`.

Its standard input is a socket to the program that started it, which first sends the modules to run: their length in
eight bytes, and what `flue.sandboxes.fork_server` made of them. Looking for them here would take longer.
"""

import gc
import marshal
import sys
from posix import read


def receive(size: int) -> bytes:
    """Return so many bytes of standard input."""
    data = b""
    while len(data) < size:
        piece = read(0, size - len(data))
        if not piece:
            sys.exit()
        data += piece
    return data


gc.disable()  # until all is loaded: there is no garbage yet
for name, folders, code in marshal.loads(receive(int.from_bytes(receive(8), "little"))):  # noqa: S302 - our program's
    module = sys.modules[name] = type(sys)(name)
    if folders:
        module.__path__ = folders
    exec(code, module.__dict__)  # noqa: S102

sys.modules["flue.sandboxes.worker.fork_server"].serve(0)
