"""Start a fork server: `python -I -S worker/__main__.py FLUE SITE`, the folders of `flue` and of installed packages.

Its standard input is a socket to the program that started it.
"""

import sys

flue, site = sys.argv[1:3]
sys.path.append(site)
for name, folder in (("flue", ""), ("flue.sandboxes", "/sandboxes"), ("flue.sandboxes.worker", "/sandboxes/worker")):
    # Packages without their `__init__`, which would import what only the program needs.
    package = type(sys)(name)
    package.__path__ = [flue + folder]
    sys.modules[name] = package

from flue.sandboxes.worker.fork_server import serve  # noqa: E402

serve(0)
