"""Every error that Flue raises.

    FlueError
    ├── UsageError               what the caller wrote or asked for is wrong
    │   ├── DefinitionError      an agent, profile, tool or skill is defined wrongly
    │   ├── ConfigError          flue.toml, command line, environment file, project layout
    │   ├── ModelSetupError      unknown model, missing key, bad provider registration
    │   └── SessionError         a session is missing, exists already, busy or deleted
    ├── AbortError               the operation was aborted by its caller
    │   └── OperationTimeoutError its `timeout` ran out
    ├── BudgetExceededError      a budget is used up; the conversation is kept and can be resumed
    ├── ResultUnavailableError   the model gave up, or never called `finish`
    ├── OperationError           a prompt, task or skill failed after it had started
    ├── ProviderError            a model provider answered with an error, or its stream broke
    ├── SandboxError             the sandbox itself failed (a non-zero exit status is a result, not an error)
    ├── DurabilityError          a store cannot be read or written, or holds a newer format
    └── SecurityError            something was refused because it would leak or escape

Every error has a stable `code` (documented in docs/troubleshooting.md), a message that says what happened to
which object, and a `hint` that says what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class FlueError(Exception):
    """Root of all errors raised by Flue.

    `code` is stable and documented; `hint` says what to do next and may be empty.
    """

    default_code: ClassVar[str] = "flue_error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def to_json(self) -> dict[str, Any]:
        """Return the wire envelope's inner object: `{"type", "message", "details"}`."""
        return {"type": self.code, "message": self.message, "details": self.hint}


class UsageError(FlueError):
    """What the caller wrote or asked for is wrong; retrying unchanged cannot help."""

    default_code = "invalid_usage"


class DefinitionError(UsageError):
    """An agent, profile, tool or skill is defined wrongly. Raised where it is defined."""

    default_code = "invalid_definition"


class ConfigError(UsageError):
    """Configuration, command line, environment file or project layout is wrong."""

    default_code = "invalid_config"


class ModelSetupError(UsageError):
    """A model cannot be used: unknown specifier, missing API key, bad registration."""

    default_code = "model_setup"


class SessionError(UsageError):
    """A session is missing, exists already, is busy or was deleted."""

    default_code = "invalid_session"


class AbortError(FlueError):
    """The operation was aborted. `reason` is what the caller passed to `abort()`, if anything."""

    default_code = "aborted"

    def __init__(self, reason: object = None) -> None:
        text = str(reason) if isinstance(reason, str | BaseException) and str(reason) else "The operation was aborted."
        super().__init__(text)
        self.reason = reason


class OperationTimeoutError(AbortError, TimeoutError):
    """The operation's `timeout` ran out; it was aborted, and the conversation so far is kept."""

    default_code = "timeout"


class BudgetExceededError(FlueError):
    """A budget is used up. The last turn is finished and kept; `session.resume(budget=…)` goes on from there.

    `scope` is `call`, `session` or `agent`; `limit_name` one of `usd`, `tokens`, `turns`, `seconds`.
    """

    default_code = "budget_exceeded"

    def __init__(self, scope: str, limit_name: str, *, spent: float, limit: float) -> None:
        super().__init__(
            f"The budget of the {scope} is used up: {spent:g} of {limit:g} {limit_name}.",
            hint="Raise it and call session.resume().",
        )
        self.scope = scope
        self.limit_name = limit_name
        self.spent = spent
        self.limit = limit


class ResultUnavailableError(FlueError):
    """The model gave up, or never produced a result. `assistant_text` is the last text it wrote."""

    default_code = "result_unavailable"

    def __init__(self, reason: str, assistant_text: str = "") -> None:
        super().__init__(f"The agent gave up: {reason}")
        self.reason = reason
        self.assistant_text = assistant_text


class OperationError(FlueError):
    """A prompt, task or skill failed after it had started; the conversation so far is kept."""

    default_code = "operation_failed"


class ProviderError(FlueError):
    """A model provider answered with an error, or its stream broke.

    `status` is the HTTP status or None for transport failures; `retryable` says whether the same request may
    succeed later; `retry_after` is the provider's own wish in seconds; `overflow` says that the conversation no
    longer fits the model's context window.
    """

    default_code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        overflow: bool = False,
        code: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after
        self.overflow = overflow


class SandboxError(FlueError):
    """The sandbox itself failed. Missing files raise the built-in `OSError` family instead."""

    default_code = "sandbox_error"


class DurabilityError(FlueError):
    """A store cannot be read or written, was changed by another process, or holds a newer format."""

    default_code = "store_error"


class SecurityError(FlueError):
    """Refused because it would leak a secret or escape a boundary."""

    default_code = "refused"


_SHOWN_OF_A_GROUP = 5


def error_message(error: BaseException) -> str:
    """Return what an exception says. Of a group also what its members say: the text of a group only counts them."""
    if not isinstance(error, BaseExceptionGroup):
        return str(error)
    members = list(_members(error))
    said = [f"{type(member).__name__}: {member}".removesuffix(": ") for member in members[:_SHOWN_OF_A_GROUP]]
    if len(members) > _SHOWN_OF_A_GROUP:
        said.append(f"and {len(members) - _SHOWN_OF_A_GROUP} more")
    return f"{error.message}: {'; '.join(said)}"


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _members(error)
        else:
            yield error
