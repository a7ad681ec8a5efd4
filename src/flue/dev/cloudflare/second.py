"""What the command line tells the first of several Workers only, told to the second one in its folder.

Seen with wrangler 4.164.0: of several configurations, `--enable-containers` and `--env-file` reach the first. Beside
each configuration Wrangler looks for `.dev.vars`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flue.build.cloudflare.plan import CONFIG

VARIABLES = ".dev.vars"


def prepare_second(folder: Path, variables: Sequence[Path], *, containers: bool) -> None:
    """Have the Worker in a folder read the files of variables, and start without containers where there can be none."""
    (folder / VARIABLES).unlink(missing_ok=True)
    if len(variables) == 1:
        (folder / VARIABLES).symlink_to(variables[0].resolve())
    elif variables:
        # Of a name that is there twice the last one counts, as it does among the files.
        (folder / VARIABLES).touch(mode=0o600)
        (folder / VARIABLES).write_bytes(b"\n".join(file.read_bytes() for file in variables))
    if not containers:
        config = folder / CONFIG
        document = json.loads(config.read_text(encoding="utf-8"))
        document["dev"] = {**document.get("dev", {}), "enable_containers": False}
        config.write_text(json.dumps(document), encoding="utf-8")
