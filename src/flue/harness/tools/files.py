"""What the file tools share: reading within bounds, and telling text from other things."""

from __future__ import annotations

from flue.errors import UsageError
from flue.harness.env import SessionEnv

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Bytes of the largest file that `read` and `edit` load."""

_PROBE = 8_000
_BYTE_ORDER_MARK = "\ufeff"


async def load_file(env: SessionEnv, path: str, *, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file, following symlinks.

    Raises `UsageError` for devices, pipes and files over `limit` bytes (default: `MAX_FILE_BYTES`); the built-in
    `OSError` family otherwise.
    """
    limit = MAX_FILE_BYTES if limit is None else limit
    stat = await env.stat(path)
    if stat.is_directory:
        raise IsADirectoryError(f"{path} is a directory")
    if not stat.is_file and not stat.is_symbolic_link:
        raise UsageError(f"{path} is not a regular file.", code="unreadable_file")
    if stat.size > limit:
        raise UsageError(
            f"{path} has {stat.size} bytes; files of up to {limit} bytes can be loaded.",
            code="unreadable_file",
            hint="Work on it with bash commands.",
        )
    return await env.read_file_buffer(path)


def decode_text(data: bytes) -> str | None:
    """Return the text of a file without its byte order mark, undecodable bytes as U+FFFD; None for a binary file."""
    # A NUL near the start is what git takes for binary, too.
    if b"\0" in data[:_PROBE]:
        return None
    text = data.decode("utf-8", errors="replace")
    if "\ufffd" in text[:_PROBE] and text[:_PROBE].count("\ufffd") * 10 > min(len(text), _PROBE):
        return None
    return text.removeprefix(_BYTE_ORDER_MARK)


def image_type(data: bytes) -> str | None:
    """Return the MIME type of an image that models take (PNG, JPEG, GIF, WebP), by its first bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None
