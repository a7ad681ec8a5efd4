"""What a build brings to a user's Wrangler configuration, and who owns which Durable Object class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flue.build.wrangler.own_exports import OwnExports
from flue.cloudflare.names import DurableClass

Owner = Literal["flue", "python", "javascript", "package", "unknown"]

SANDBOX_SUFFIX = "Sandbox"
# The first date on which a Worker gets Python 3.14 (Pyodide 314), which the vendored wheels are made for.
FIRST_DATE = "2026-09-08"


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What the build adds.

    `main` and `sandboxes_main` are the entries of the two Workers, relative to their configurations. `default_name` is
    used where the user gives no name. `bytecode` says that the Worker ships `.pyc` files, which Wrangler leaves out
    unless it is told not to. `recorded` holds the migration tags of earlier builds in their order, by environment
    (empty for the top level): see `flue.build.wrangler.lifecycle`.
    """

    classes: Sequence[DurableClass]
    main: str
    sandboxes_main: str = "sandboxes.js"
    default_name: str = "flue-agents"
    own: OwnExports = field(default_factory=OwnExports)
    sandbox_package: bool = False
    bytecode: bool = False
    recorded: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def owner(self, class_name: str) -> Owner:
        """Return where a class comes from; the user's own modules win over the suffix `Sandbox`."""
        if any(found.class_name == class_name for found in self.classes):
            return "flue"
        if class_name in self.own.javascript:
            return "javascript"
        if class_name in self.own.python:
            return "python"
        if class_name.endswith(SANDBOX_SUFFIX):
            return "package"
        return "python" if self.own.open else "unknown"

    def is_javascript(self, class_name: str) -> bool:
        """Return whether a class lives in the second Worker, which is written in JavaScript."""
        return self.owner(class_name) in ("javascript", "package")
