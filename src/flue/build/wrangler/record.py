"""The migration tags that earlier builds listed: a small file beside the user's Wrangler file, to be committed.

Cloudflare applies what follows the tag that it applied last, so tags keep their places from build to build, on every
machine (see `flue.build.wrangler.lifecycle`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flue.errors import ConfigError

RECORD = "flue.migrations.json"
_TOP = "(top level)"


def read_record(root: Path) -> dict[str, tuple[str, ...]]:
    """Return the tags by environment, empty for the top level. Raises `ConfigError` (`invalid_wrangler`)."""
    file = root / RECORD
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not all(map(_is_tags, record.values())):
        raise ConfigError(
            f"{RECORD} is not what flue build wrote: an object with lists of migration tags.",
            code="invalid_wrangler",
            hint="Take it back from version control. Without it, classes that are deployed may be left out.",
        )
    return {"" if name == _TOP else name: tuple(tags) for name, tags in record.items()}


def write_record(root: Path, tags: Mapping[str, Sequence[str]]) -> bool:
    """Write the tags, and return whether that changed anything. Raises `ConfigError` (`cannot_write`)."""
    listed = {name or _TOP: list(found) for name, found in sorted(tags.items()) if found}
    file = root / RECORD
    text = json.dumps(listed, indent=2) + "\n"
    if not listed or (file.is_file() and file.read_text(encoding="utf-8") == text):
        return False
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{RECORD} cannot be written: {error.strerror or error}.",
            code="cannot_write",
            hint="It keeps the order of the migrations, so it has to lie beside the Wrangler file, and be committed.",
        ) from error
    return True


def _is_tags(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) for tag in value)
