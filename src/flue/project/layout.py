"""Where a project keeps what: its source root, and the agents, workflows and app in it.

The source root is the first directory of `<root>/.flue` and `<root>/src` that exists, else the root itself; layouts
never mix. In it, `agents/*.py`, `workflows/*.py` and `app.py` are discovered; files that begin with `_` are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flue.errors import ConfigError

Kind = Literal["agents", "workflows"]

# Names stand in URL paths and, after `workflow:`, in run ids, where a colon separates.
_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*\Z")
# On Cloudflare names become Durable Object classes and bindings, which deployed code is found by.
_CLOUDFLARE_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """What was discovered. `agents` and `workflows` map names (`daily-report`) to files (`daily_report.py`)."""

    root: Path
    source_root: Path
    agents: dict[str, Path]
    workflows: dict[str, Path]
    app: Path | None

    def shown(self, path: Path) -> str:
        """Return `path` as messages show it: relative to the root where it lies in it."""
        return shown(path, self.root)


def shown(path: Path, root: Path) -> str:
    """Return `path` relative to `root` where it lies in it, else as it is."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def source_root_of(root: Path) -> Path:
    """Return the directory that holds a project's modules."""
    for candidate in (root / ".flue", root / "src"):
        if candidate.is_dir():
            return candidate
    return root


def name_of(file: Path) -> str:
    """Return the name that a file gives to its agent or workflow."""
    return file.stem.replace("_", "-")


def find_layout(root: Path, *, target: str = "server") -> Layout:
    """Discover a project's files; nothing is imported.

    Raises `ConfigError`: `invalid_root` (no such directory), `empty_project` (neither agents nor workflows),
    `invalid_name` and `duplicate_name`, each naming the files.
    """
    root = root.resolve()
    if not root.is_dir():
        raise ConfigError(
            f"Project root {root} is not a directory.",
            code="invalid_root",
            hint="Pass an existing directory with --root, or run the command inside the project.",
        )
    source = source_root_of(root)
    agents = _discover(source, "agents", root, target)
    workflows = _discover(source, "workflows", root, target)
    if not agents and not workflows:
        raise _nothing_found(root, source)
    app = source / "app.py"
    return Layout(root, source, agents, workflows, app if app.is_file() else None)


def _discover(source: Path, kind: Kind, root: Path, target: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted((source / kind).glob("*.py")):
        if file.name.startswith("_") or not file.is_file():
            continue
        name = name_of(file)
        _check_name(name, shown(file, root), target)
        if name in found:
            raise ConfigError(
                f'Two files are named "{name}": {shown(found[name], root)} and {shown(file, root)}.',
                code="duplicate_name",
                hint="Rename one of them: underscores in a file's name count as hyphens.",
            )
        found[name] = file
    return found


def _check_name(name: str, file: str, target: str) -> None:
    if not _NAME.match(name):
        raise ConfigError(
            f'{file}: "{name}" cannot be a name.',
            code="invalid_name",
            hint="Use letters and digits, with single hyphens or underscores between them.",
        )
    if target == "cloudflare" and not _CLOUDFLARE_NAME.match(name):
        raise ConfigError(
            f'{file}: "{name}" cannot be a name on Cloudflare.',
            code="invalid_name",
            hint="Use lower-case letters and digits, beginning with a letter, with single hyphens between them.",
        )


def _nothing_found(root: Path, source: Path) -> ConfigError:
    hint = f"Create {shown(source / 'workflows', root)}/<name>.py or {shown(source / 'agents', root)}/<name>.py"
    overlooked = [kind for kind in ("agents", "workflows") if source != root and any((root / kind).glob("*.py"))]
    if overlooked:
        where = shown(source, root)
        hint = f"{where}/ exists, so {' and '.join(overlooked)}/ beside it are not read: move them into {where}/"
    return ConfigError(
        f"No agents and no workflows in {source}.", code="empty_project", hint=f"{hint}, or run `flue init`."
    )
