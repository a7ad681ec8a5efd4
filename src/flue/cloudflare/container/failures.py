"""What the failures of a container mean to whoever uses it, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flue.cloudflare.container.stub import StubError
from flue.errors import SandboxError

# Codes are those of @cloudflare/sandbox 0.12.10 (shared/errors/codes), texts those of @cloudflare/containers 0.3.7 and
# of the platform, in lower case. The first that fits counts.
_MISSING = (
    "containers have not been enabled for this durable object",
    "no application that matches",
    "no container application assigned",
    "no such image",
)
_BUSY = (
    "no container instance",
    "max_instances",
    "maximum number of running container instances",
    "too many containers per second",
    "container is starting",
    "failed to start container",
    "container failed to start",
    "container did not start",
    "not listening",
    "http error! status: 429",
    "http error! status: 503",
)
_INTERRUPTED = (
    "network connection lost",
    "container suddenly disconnected",
    "reset because its code was updated",
    "this script has been upgraded",
    "caused object to be reset",
    "stream ended without completion",
    # The package keeps only the status of answers that do not come from its own server in the container.
    "http error! status: 5",
)
_CODES = {
    "CONTAINER_UNAVAILABLE": "sandbox_busy",
    "INTERPRETER_NOT_READY": "sandbox_busy",
    "OPERATION_INTERRUPTED": "sandbox_interrupted",
    "RPC_TRANSPORT_ERROR": "sandbox_interrupted",
    "SESSION_TERMINATED": "sandbox_interrupted",
    "SESSION_DESTROYED": "sandbox_interrupted",
}


@contextmanager
def told(title: str) -> Iterator[None]:
    """Turn what the object of the container named `title` raises into the error that a user gets."""
    try:
        yield
    except StubError as error:
        raise _sandbox_error(error, title) from error


def _sandbox_error(error: StubError, title: str) -> SandboxError:
    said = error.message.lower()
    if any(text in said for text in _MISSING):
        return SandboxError(
            f"{title} has no container: {error.message}",
            code="sandbox_without_container",
            hint="Name its class in containers of your Wrangler file, with an image, and deploy both Workers.",
        )
    code = _CODES.get(error.code)
    if code == "sandbox_busy" or any(text in said for text in _BUSY):
        return SandboxError(
            f"{title} cannot be started now: {error.message}",
            code="sandbox_busy",
            hint="Try again in a moment, after a first deployment in some minutes; raise max_instances if it goes on.",
        )
    if code == "sandbox_interrupted" or any(text in said for text in _INTERRUPTED):
        return SandboxError(
            f"{title} was interrupted: {error.message}",
            code="sandbox_interrupted",
            hint="Whether the last command went on is unknown. One that starts anew has only its image's files.",
        )
    if error.no_such_method:
        return SandboxError(
            f"{title} is no container of @cloudflare/sandbox: {error.message}",
            hint="Bind a class of that package, version 0.9 or newer, or one that extends it.",
        )
    return SandboxError(f"{title} failed: {error}", hint="npx wrangler tail shows the log of its Worker.")
