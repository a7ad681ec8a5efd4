"""Tools: what a model may call.

`@tool` takes name, description and schema from a function's signature and docstring; `Tool(...)` is the raw form
with a JSON Schema. Structure is checked at definition; the schema of a decorated function is built when it is first
asked for, because building it imports pydantic.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from flue.definitions.callables import is_async
from flue.definitions.checks import check_mapping, check_text
from flue.definitions.schema_check import schema_problem
from flue.errors import DefinitionError
from flue.messages import Json, TextContent, ToolSpec, UserContent
from flue.ports import OffLoop, here

if TYPE_CHECKING:
    from flue.definitions.signature import Signature

# What all providers take.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Execute = Callable[[Json, "ToolContext"], Awaitable[Any] | Any]
Approval = bool | Callable[[Json, "ToolContext"], Awaitable[bool] | bool]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the call it serves.

    `env` is the mapping the application passed to its context (process environment, Worker bindings); `sandbox` the
    session's file and shell environment (a `flue.harness.env.SessionEnv`).
    """

    tool_call_id: str
    session: str
    sandbox: Any
    env: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gives: `content` for the model, `details` for events and programs.

    `terminate` ends the turn loop when every result of the batch says so.
    """

    content: tuple[UserContent, ...]
    details: Any = None
    is_error: bool = False
    terminate: bool = False

    @classmethod
    def from_text(
        cls, text: str, details: Any = None, *, is_error: bool = False, terminate: bool = False
    ) -> ToolResult:
        """Return a result of one text block."""
        return cls((TextContent(text),), details, is_error, terminate)

    def to_json(self) -> Json:
        """Return the form that events carry."""
        data: Json = {"content": [block.to_json() for block in self.content], "details": self.details}
        if self.terminate:
            data["terminate"] = True
        return data


class Tool:
    """A tool in raw form: JSON Schema parameters and a callable.

    `execute(arguments, context)` may be sync or async and may return text, what has a JSON form, images, bytes, a list
    of such blocks or a `ToolResult`. Of long text the model is shown the beginning, and the whole is kept in the
    sandbox. What it raises becomes an error result that the model sees. Calls of one batch run in parallel. A callable
    that is not async runs in a thread, so it may block, and several of its calls may run at the same time.

    With `approval=True`, or a function `(arguments, context) -> bool` that says yes, a call waits until a person
    approves it (`session.approve`) or denies it (`session.deny`).

    Raises `DefinitionError` when a field is missing or has the wrong type, or (code `invalid_schema`) when the schema
    is one that no provider would take.
    """

    __slots__ = ("_approval", "_async", "_execute", "_parameters", "_signature", "_spec", "description", "name")

    def __init__(
        self,
        *,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        execute: Execute,
        approval: Approval = False,
    ) -> None:
        self.name = _usable_name(name)
        self.description = check_text(description, f'tool "{name}"', "description")
        self._parameters: Json | None = _object_schema(parameters, f'tool "{name}"')
        self._signature: Signature | None = None
        self._spec: ToolSpec | None = None
        if not callable(execute):
            raise DefinitionError(f'tool "{name}": execute must be callable, got {type(execute).__name__}.')
        if not isinstance(approval, bool) and not callable(approval):
            raise DefinitionError(f'tool "{name}": approval must be True, False or a function, got {approval!r}.')
        self._execute = execute
        self._async = is_async(execute)
        self._approval = approval

    @property
    def parameters(self) -> Json:
        """Return the JSON Schema of the arguments, always of type object."""
        if self._parameters is None:
            assert self._signature is not None
            self._parameters = self._signature.json_schema()
        return self._parameters

    @property
    def spec(self) -> ToolSpec:
        """Return the tool as the model sees it, the same object every time."""
        if self._spec is None:
            self._spec = ToolSpec(self.name, self.description, self.parameters)
        return self._spec

    def with_execute(self, execute: Execute) -> Tool:
        """Return the tool as it is, but for its callable: that gets the arguments as they were given."""
        made = copy(self)
        made._spec, made._parameters = self.spec, self.parameters
        made._signature, made._execute, made._async = None, execute, is_async(execute)
        return made

    async def run(self, arguments: Json, context: ToolContext, off_loop: OffLoop = here) -> Any:
        """Run the tool with arguments that fit `parameters` and return what its callable returned."""
        call = partial(self._execute if self._signature is None else self._signature.call, arguments, context)
        value = call() if self._async else await off_loop(call)
        return await value if inspect.isawaitable(value) else value

    @property
    def may_need_approval(self) -> bool:
        """Say whether some calls must wait for a person."""
        return self._approval is not False

    async def needs_approval(self, arguments: Json, context: ToolContext) -> bool:
        """Say whether a call with these arguments must wait for a person."""
        if isinstance(self._approval, bool):
            return self._approval
        verdict = self._approval(arguments, context)
        return bool(await verdict if inspect.isawaitable(verdict) else verdict)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


def _usable_name(name: object) -> str:
    text = check_text(name, "tool", "name")
    if not _NAME.fullmatch(text):
        raise DefinitionError(
            f"tool {text!r}: a tool's name must be letters of ASCII, digits, _ and -, 64 at most.",
            hint="Providers refuse others. Rename the function, or pass tool(name=…).",
        )
    return text


def _object_schema(parameters: object, owner: str) -> Json:
    schema = {"type": "object", **check_mapping(parameters, owner, "parameters")}
    if problem := schema_problem(schema):
        raise DefinitionError(
            f"{owner}: parameters cannot be used as a JSON Schema: {problem}.",
            code="invalid_schema",
            hint="Write {'type': 'object', 'properties': {…}, 'required': […]}, or decorate a function with @tool.",
        )
    return schema


def _from_function(
    function: Callable[..., Any],
    *,
    name: str | None,
    description: str | None,
    approval: Approval,
    caller_locals: Mapping[str, Any],
) -> Tool:
    from flue.definitions.signature import Signature

    label = str(name or getattr(function, "__name__", ""))
    text = description or inspect.getdoc(function) or ""
    if not text.strip():
        raise DefinitionError(
            f'tool "{label}" has no description.',
            hint="Give the function a docstring, or pass tool(description=…): the model chooses tools by it.",
        )
    signature = Signature.of(function, label, text, caller_locals)
    built = Tool(
        name=label,
        description=signature.description,
        parameters={},
        execute=lambda _arguments, _context: None,
        approval=approval,
    )
    built._parameters = None
    built._signature, built._async = signature, is_async(function)
    return built


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, approval: Approval = False
) -> Callable[[Callable[..., Any]], Tool]: ...
@overload
def tool(
    *, name: str, description: str, parameters: Mapping[str, Any], execute: Execute, approval: Approval = False
) -> Tool: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    execute: Execute | None = None,
    approval: Approval = False,
) -> Any:
    """Make a tool of a function, or of a JSON Schema and a callable.

    As a decorator, the arguments' schema comes from the type hints (anything pydantic understands) and their
    descriptions from the docstring's `Args:` section or `Annotated[..., Field(description=…)]`. A parameter annotated
    `ToolContext` receives the context of the call and is not shown to the model. `approval` is as for `Tool`.

    Raises `DefinitionError` when a description is missing, a parameter has no type, or a field has the wrong type.
    """
    if parameters is not None or execute is not None:
        return Tool(
            name=name or "",
            description=description or "",
            parameters=parameters or {},
            execute=execute,  # type: ignore[arg-type]
            approval=approval,
        )
    caller_locals = dict(sys._getframe(1).f_locals)

    def decorate(decorated: Callable[..., Any]) -> Tool:
        return _from_function(
            decorated, name=name, description=description, approval=approval, caller_locals=caller_locals
        )

    return decorate if function is None else decorate(function)
