"""The page's own files: read once, served with an ETag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Return what changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    def response(self, headers: Headers) -> Response:
        """Return the file, or that the client has it."""
        # The browser asks each time: after an upgrade it must not mix old modules with new ones.
        own = {"etag": self.etag, "cache-control": "no-cache"}
        if self.etag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        return Response(self.content, headers=own, media_type=self.media_type)


@cache
def page_files() -> dict[str, PageFile]:
    """Return all files by the path that they are served at."""
    found = {
        f"/{path.name}": PageFile(path.read_bytes(), _TYPES[path.suffix])
        for path in _FOLDER.iterdir()
        if path.suffix in _TYPES
    }
    return {**found, "/": found["/index.html"]}
