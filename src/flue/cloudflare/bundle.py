"""A project as a build packs it into a Worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of a project, and what is in them.

    `files` maps paths, relative to the project's root and with forward slashes, to what they contain: everything that
    the loader may read. `agents` and `workflows` are the names that have a Durable Object class; `handlers` those of
    the functions in the user's `cloudflare.py` that handle other events than requests (`scheduled`, `queue`, …).
    `project` is the name of the project's folder; `version` is another one for each build. `log` and `keep` are what
    its configuration says of events: the file itself may lie outside of what is packed.
    """

    files: Mapping[str, bytes]
    agents: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    project: str = "project"
    version: str = ""
    log: LogSettings = field(default_factory=LogSettings)
    keep: KeepFor = field(default_factory=KeepFor)

    def unpack(self, root: Path) -> None:
        """Write the files into a folder, which is made if it is not there."""
        root.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
