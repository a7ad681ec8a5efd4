"""Typed results: the `finish` and `give_up` tools, and what is accepted as a result.

A result type is anything pydantic understands (models, dataclasses, TypedDict, Literal, `list[int]`, enums …) or a JSON
Schema as a mapping. Types that are not objects travel wrapped in `{"result": …}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.definitions.typed_dicts import for_pydantic
from flue.errors import DefinitionError
from flue.harness.arguments import find_issues
from flue.messages import Json

FINISH = "finish"
GIVE_UP = "give_up"
MAX_REMINDERS = 32

FOOTER = (
    "\n\nGive your final answer by calling the `finish` tool; its arguments are the answer and must fit its schema. "
    "If you are told that they do not, correct them and call it again. If the task cannot be done, or no honest "
    "answer fits the schema, call `give_up` and say why. An answer written as plain text is not received."
)
REMINDER = (
    "You stopped without calling `finish` or `give_up`, so no answer has been received. Call `finish` with your "
    "answer, or `give_up` with the reason why there is none."
)


class ResultMismatchError(ValueError):
    """The arguments of `finish` do not fit; the message lists what and where."""


class ResultType:
    """A result type: its JSON Schema for the model, and how arguments become a value."""

    def __init__(self, wanted: Any) -> None:
        if isinstance(wanted, Mapping):
            self._adapter = None
            schema = dict(wanted)
        else:
            self._adapter = _adapter(wanted)
            schema = dict(self._adapter.json_schema)
        schema.pop("$schema", None)
        schema = _without_root_reference(schema)
        self._schema = schema
        self._wrapped = schema.get("type") != "object"
        self.parameters: Json = _wrap(schema) if self._wrapped else schema

    def parse(self, arguments: Json) -> tuple[Any, Any]:
        """Return the value and its JSON form. Raises `ResultMismatchError`."""
        given = arguments.get("result") if self._wrapped else arguments
        if self._adapter is not None:
            return self._adapter.parse(given)
        if issues := find_issues(self._schema, given):
            raise ResultMismatchError("; ".join(issues))
        return given, given


def _without_root_reference(schema: Json) -> Json:
    """Return a schema whose root says what it is: that of a recursive type is only a reference to its definition."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    definition = schema.get("$defs", {}).get(name)
    return {**definition, "$defs": schema["$defs"]} if isinstance(definition, Mapping) else schema


def _wrap(schema: Json) -> Json:
    inner = dict(schema)
    definitions = inner.pop("$defs", None)
    wrapped: Json = {
        "type": "object",
        "properties": {"result": inner},
        "required": ["result"],
        "additionalProperties": False,
    }
    # `$ref`s count from the root of the schema, so definitions stay there.
    return wrapped if definitions is None else {**wrapped, "$defs": definitions}


class _PydanticAdapter:
    def __init__(self, wanted: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter: Any = TypeAdapter(for_pydantic(wanted))
        # Here, because pydantic finds out only now that a name in an annotation is not defined.
        self.json_schema: Json = self._adapter.json_schema()

    def parse(self, given: Any) -> tuple[Any, Any]:
        from pydantic import ValidationError

        try:
            # As JSON, so that strict models accept dates, enums and other things JSON can only write as text.
            value = self._adapter.validate_json(json.dumps(given))
        except ValidationError as error:
            raise ResultMismatchError("; ".join(_issue(item) for item in error.errors())) from None
        return value, self._adapter.dump_python(value, mode="json")


def _issue(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    return f"{item['msg']} (at {place})" if place else str(item["msg"])


def _adapter(wanted: Any) -> _PydanticAdapter:
    try:
        return _cached_adapter(wanted)
    except TypeError:
        return _build_adapter(wanted)


def _build_adapter(wanted: Any) -> _PydanticAdapter:
    try:
        return _PydanticAdapter(wanted)
    except Exception as error:
        reason, _, _ = str(error).partition("\n")
        raise DefinitionError(
            f"result={wanted!r} cannot be used as a result type: {reason}",
            hint="Use a pydantic model, dataclass, TypedDict, Literal, list[…] or a JSON Schema.",
            code="invalid_schema",
        ) from error


_cached_adapter = lru_cache(maxsize=256)(_build_adapter)


class Outcome:
    """What came of a call with a result type: a value, a reason for giving up, or nothing yet."""

    def __init__(self, wanted: ResultType) -> None:
        self._wanted = wanted
        self.value: Any = None
        self.json: Any = None
        self.finished = False
        self.gave_up: str | None = None

    @property
    def settled(self) -> bool:
        """Say whether `finish` was accepted or `give_up` was called."""
        return self.finished or self.gave_up is not None

    def tools(self) -> tuple[Tool, Tool]:
        """Return `finish` and `give_up`."""
        return (
            Tool(
                name=FINISH,
                description="Hand in the final answer of this task. Call it once, when the work is complete.",
                parameters=self._wanted.parameters,
                execute=self._finish,
            ),
            Tool(
                name=GIVE_UP,
                description="End this task without an answer. Use it only when no valid answer is possible.",
                parameters={
                    "type": "object",
                    "properties": {
                        "reason": {"type": "string", "minLength": 1, "description": "Why there is no answer."}
                    },
                    "required": ["reason"],
                    "additionalProperties": False,
                },
                execute=self._give_up,
            ),
        )

    def _finish(self, arguments: Json, _context: ToolContext) -> ToolResult:
        if self.settled:
            return self._too_late()
        try:
            self.value, self.json = self._wanted.parse(arguments)
        except ResultMismatchError as error:
            return ToolResult.from_text(
                f"Result does not match the required schema: {error}. Please call `finish` again with a corrected "
                "payload.",
                is_error=True,
            )
        self.finished = True
        details = {"tool": FINISH, "result": self.json}
        return ToolResult.from_text("Result accepted. The task is complete.", details, terminate=True)

    def _give_up(self, arguments: Json, _context: ToolContext) -> ToolResult:
        if self.settled:
            return self._too_late()
        self.gave_up = arguments["reason"]
        return ToolResult.from_text("Acknowledged.", {"tool": GIVE_UP, "reason": self.gave_up}, terminate=True)

    def _too_late(self) -> ToolResult:
        what = "A result was already accepted" if self.finished else "The task was already given up"
        return ToolResult.from_text(f"{what}. Do not call `finish` or `give_up` again.", terminate=True)
