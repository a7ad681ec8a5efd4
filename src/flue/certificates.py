"""Whom to trust on the network."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@cache
def trusted() -> ssl.SSLContext:
    """Return what HTTP clients check servers by; reading that takes 20 ms, so once a process."""
    import httpx2

    return httpx2.create_ssl_context()
