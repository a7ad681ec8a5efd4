"""What a module says of itself to people and clients: its documentation, and which payload it takes."""

from __future__ import annotations

import inspect
from typing import Any

from flue.definitions.typed_dicts import for_pydantic
from flue.errors import ConfigError
from flue.messages import Json
from flue.project.modules import AgentModule, WorkflowModule

_PAYLOAD = "Make it a pydantic model, a dataclass or a TypedDict."


def documentation(module: AgentModule | WorkflowModule) -> str:
    """Return a module's docstring, else that of its `run`; empty without one."""
    return _docstring(module.module) or _docstring(module.run)


def payload_schema(module: AgentModule | WorkflowModule, file: str) -> Json | None:
    """Return the JSON Schema of a module's `Payload`, None without one; `file` names the module to people.

    Raises `ConfigError` (`invalid_module`) when it has none, or does not describe an object.
    """
    payload = payload_type(module)
    if payload is None:
        return None
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        schema = TypeAdapter(payload).json_schema()
    except PydanticUserError as error:
        problem = f"{file}: `Payload` has no JSON Schema: {error.message}."
        raise ConfigError(problem, code="invalid_module", hint=_PAYLOAD) from error
    if schema.get("type") != "object":
        raise ConfigError(f"{file}: `Payload` does not describe an object.", code="invalid_module", hint=_PAYLOAD)
    return schema


def payload_type(module: AgentModule | WorkflowModule) -> Any:
    """Return a module's `Payload` as pydantic takes it, None without one."""
    return for_pydantic(getattr(module.module, "Payload", None))


def _docstring(thing: object) -> str:
    own = getattr(thing, "__doc__", None)
    return inspect.cleandoc(own) if isinstance(own, str) else ""
