"""What goes wrong on the way to a provider, in the same words for every `HttpTransport`.

Addresses are shown without path and query: both may hold secrets.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flue.errors import ProviderError

SILENT = "kept silent for too long"


def host_of(url: str) -> str:
    """Return scheme, host and port of an address."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "(unreadable)"


def unreachable(url: str, what: str, hint: str = "") -> ProviderError:
    """Return the retryable error for a connection that was not made or broke; `what` is what the host did."""
    return ProviderError(f"{host_of(url)} {what}.", status=None, retryable=True, code="provider_unreachable", hint=hint)


def unusable_address(url: str, reason: object) -> ProviderError:
    """Return the error for an address that no request can be sent to."""
    return ProviderError(f"The address {host_of(url)!r} cannot be used: {reason}", code="invalid_url")


def unusable_header(url: str) -> ProviderError:
    """Return the error for a header that HTTP cannot carry. It is not quoted: it may be the key."""
    return ProviderError(
        f"A header of the request to {host_of(url)} has characters that HTTP does not allow.",
        code="invalid_header",
        hint="Look for line breaks or letters outside ASCII in the API key and the configured headers.",
    )
