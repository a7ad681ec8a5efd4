"""The project's files as one Python module: a Worker has no folder of its own to read them from.

The Worker writes them to its file system in memory before it loads the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from flue.build.sources import find_sources
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.project.config import Config
from flue.project.layout import Layout

# Of a project whose modules lie in its root, what no agent reads.
_NOT_READ = (
    "*.lock",
    "*Dockerfile*",
    ".flue-build",
    "package.json",
    "package-lock.json",
    "pnpm-lock.yaml",
    "pyproject.toml",
    "requirements*.txt",
    "tsconfig.json",
    "wrangler.json",
    "wrangler.jsonc",
    "wrangler.toml",
    "flue.migrations.json",
)
# Events that are no requests; their functions are named so (developers.cloudflare.com/workers/runtime-apis/handlers).
_HANDLERS = frozenset({"email", "queue", "scheduled", "tail", "trace"})
_BESIDE = ("AGENTS.md", "CLAUDE.md", ".agents/")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The project's files by their paths in it, and what was left out although it was not to be expected.

    `log` and `keep` are what its configuration says of its events.
    """

    files: Mapping[str, bytes]
    log: LogSettings
    keep: KeepFor
    secrets: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def mentions(self, text: str) -> bool:
        """Return whether any file has this text."""
        return any(text.encode() in data for data in self.files.values())


def read_bundle(layout: Layout, config: Config, *, without: Iterable[Path]) -> Bundle:
    """Read what a Worker needs of a project: the source root with all that is in it, `AGENTS.md`, `.agents/`."""
    found = find_sources(layout.root, without=list(without))
    source = layout.source_root.relative_to(layout.root).as_posix()

    def is_read(name: str) -> bool:
        if source == ".":
            return not any(fnmatch(name, pattern) for pattern in _NOT_READ)
        return name.startswith((f"{source}/", *_BESIDE))

    files = {name: path.read_bytes() for name, path in found.files.items() if is_read(name)}
    secrets, links = (tuple(filter(is_read, names)) for names in (found.secrets, found.links))
    return Bundle(files, config.log, config.keep, secrets, links)


def bundle_module(bundle: Bundle, layout: Layout, own: Iterable[str], own_version: str) -> str:
    """Return the text of the module `flue_bundle`; `own` are the names of the user's `cloudflare.py`."""
    digest = hashlib.sha256(f"{own_version}\0{bundle.log}\0{bundle.keep}\0".encode())
    for name, data in sorted(bundle.files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    files = "".join(f"        {name!r}: {data!r},\n" for name, data in sorted(bundle.files.items()))
    return f"""\
# Written by flue build.
from flue.cloudflare.bundle import Bundle
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor

BUNDLE = Bundle(
    project={layout.root.name!r},
    version={digest.hexdigest()[:16]!r},
    agents={tuple(sorted(layout.agents))!r},
    workflows={tuple(sorted(layout.workflows))!r},
    handlers={tuple(sorted(_HANDLERS.intersection(own)))!r},
    log={bundle.log!r},
    keep={bundle.keep!r},
    files={{
{files}    }},
)
"""
