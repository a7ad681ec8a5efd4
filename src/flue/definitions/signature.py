"""The parameters of a decorated function: a JSON Schema for the model, and validated calls.

Structure is checked when the tool is defined. Annotations are resolved and pydantic is imported when the schema or a
call is first needed, so that definitions stay cheap and types may be defined after the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_args, get_origin

from flue.definitions.annotations import is_tool_context, needed_locals, resolve_annotations, tool_parameters
from flue.definitions.arguments_error import ArgumentsError
from flue.definitions.docstring import split_docstring
from flue.definitions.typed_dicts import for_pydantic
from flue.errors import DefinitionError
from flue.messages import Json

if TYPE_CHECKING:
    from pydantic import BaseModel

# Where the values of a JSON Schema keyword are schemas themselves, by name or in a list.
_NAMED_SCHEMAS = ("properties", "$defs", "patternProperties", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class _Field:
    """A parameter in the model of the arguments.

    Pydantic refuses some names that are fine for parameters (`_x`, `schema`), so `name` is the model's own.
    `own_default` says that the function fills the default itself: validation would hand it a copy.
    """

    parameter: str
    name: str
    own_default: bool


@dataclass(frozen=True, slots=True)
class _Arguments:
    model: type[BaseModel]
    fields: tuple[_Field, ...]
    context_parameters: tuple[str, ...]
    schema: Json


@dataclass(slots=True)
class Signature:
    """A function as a tool: `description` and `json_schema()` for the model, `call()` for the loop."""

    function: Callable[..., Any]
    label: str
    description: str
    _parameters: Mapping[str, inspect.Parameter]
    _documented: Mapping[str, str]
    _local_names: Mapping[str, Any]
    _arguments: _Arguments | None = field(default=None, init=False)

    @classmethod
    def of(
        cls, function: Callable[..., Any], label: str, docstring: str, caller_locals: Mapping[str, Any]
    ) -> Signature:
        """Read a function's signature and docstring.

        `caller_locals` are the local variables where the tool is defined; only those that an annotation names are
        kept. Raises `DefinitionError` for a parameter without an annotation or of a kind that JSON cannot fill, and
        for a function that yields.
        """
        owner = f'tool "{label}"'
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(f"{owner} yields values.", hint="A tool must return one value.")
        parameters = tool_parameters(function, owner)
        description, documented = split_docstring(docstring, parameters)
        _, own = split_docstring(inspect.getdoc(function) or "", parameters)
        local_names = needed_locals(function, parameters.values(), caller_locals)
        return cls(function, label, description or docstring.strip(), parameters, own | documented, local_names)

    def json_schema(self) -> Json:
        """Return the JSON Schema of the arguments: type object, unknown arguments refused, no titles.

        Raises `DefinitionError` when an annotation names something unknown or a type has no JSON Schema.
        """
        return self._built().schema

    def call(self, arguments: Mapping[str, Any], context: Any) -> Any:
        """Validate the arguments, call the function, and return what it returned (a coroutine when it is async).

        Raises `ArgumentsError`, written for the model, when they do not fit.
        """
        built = self._built()
        valid, issues = _validate(built.model, arguments)
        issues += [f"{name}: must not be given" for name in arguments if name not in built.schema["properties"]]
        if valid is None or issues:
            raise ArgumentsError(self.label, issues, arguments)
        given = valid.model_fields_set
        values = {f.parameter: getattr(valid, f.name) for f in built.fields if f.name in given or not f.own_default}
        return self.function(**values, **dict.fromkeys(built.context_parameters, context))

    def _built(self) -> _Arguments:
        if self._arguments is None:
            self._arguments = self._build()
            self._local_names = {}
        return self._arguments

    def _build(self) -> _Arguments:
        owner = f'tool "{self.label}"'
        resolved = resolve_annotations(self.function, owner, self._parameters, self._local_names)
        types = {name: for_pydantic(annotation) for name, annotation in resolved.items()}
        contexts = tuple(name for name, annotation in types.items() if is_tool_context(annotation))
        names = [name for name in types if name not in contexts]
        fields = tuple(
            _Field(name, f"argument_{index}", not _is_field_info(self._parameters[name].default))
            for index, name in enumerate(names)
        )
        definitions = {f.name: self._definition(f.parameter, types[f.parameter]) for f in fields}
        try:
            model = _build_model(definitions)
            return _Arguments(model, fields, contexts, _object_schema(model))
        except Exception as error:  # noqa: BLE001 - pydantic has no common error; `_failed_type` says what it was.
            raise _failed_type(owner, fields, definitions, error) from None

    def _definition(self, name: str, annotation: Any) -> tuple[Any, Any]:
        """Return the type and default of a pydantic field; what the annotation itself says wins over the docstring."""
        from pydantic import Field

        default = self._parameters[name].default
        if default is inspect.Parameter.empty:
            default = ...
        plain: Any = annotation
        metadata: tuple[Any, ...] = ()
        if get_origin(annotation) is Annotated:
            plain, metadata = annotation.__origin__, annotation.__metadata__
        ours = Field(alias=name, description=self._documented.get(name))
        try:
            if default is None and type(None) not in get_args(plain):
                plain = Optional[plain]  # noqa: UP045 - `|` fails for forward references; models do send null for None.
            return Annotated[(plain, ours, *metadata)], default
        except (AttributeError, TypeError):
            # What `typing` raises for values that are no types.
            raise DefinitionError(
                f'tool "{self.label}", parameter {name!r}: the annotation {plain!r} is no type.',
                hint="Annotate it with a type, such as str or list[int].",
            ) from None


def _is_field_info(default: Any) -> bool:
    """Say whether a default is pydantic's `Field(…)`, without importing pydantic."""
    return type(default).__module__ == "pydantic.fields" and type(default).__name__ == "FieldInfo"


def _build_model(definitions: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    from pydantic import create_model

    # No configuration: dataclasses and typed dictionaries in the annotations would take it over.
    return create_model("Arguments", **dict(definitions))  # type: ignore[call-overload, no-any-return]


def _validate(model: type[BaseModel], arguments: Mapping[str, Any]) -> tuple[BaseModel | None, list[str]]:
    from pydantic import ValidationError

    try:
        return model.model_validate(dict(arguments)), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return None, [f"{'.'.join(map(str, issue['loc'])) or 'root'}: {issue['msg']}" for issue in found]


def _object_schema(model: type[BaseModel]) -> Json:
    from pydantic.json_schema import GenerateJsonSchema

    class QuietSchema(GenerateJsonSchema):
        """Defaults that JSON cannot hold are left out silently: the function fills them."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    schema = _without_titles(model.model_json_schema(schema_generator=QuietSchema))
    return {"type": "object", "properties": schema.pop("properties", {}), **schema, "additionalProperties": False}


def _without_titles(schema: Any) -> Any:
    """Return a copy of a schema without `title` keywords; properties called `title` stay."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    clean: Json = {}
    for key, value in schema.items():
        if key in _NAMED_SCHEMAS:
            clean[key] = {name: _without_titles(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            clean[key] = value
        elif key != "title":
            clean[key] = _without_titles(value)
    return clean


def _failed_type(
    owner: str, fields: tuple[_Field, ...], definitions: Mapping[str, tuple[Any, Any]], error: Exception
) -> DefinitionError:
    """Name the parameter whose type pydantic cannot handle."""
    for candidate in fields:
        try:
            _object_schema(_build_model({candidate.name: definitions[candidate.name]}))
        except Exception as own_error:  # noqa: BLE001 - whatever pydantic raises, its message is passed on.
            owner, error = f"{owner}, parameter {candidate.parameter!r}", own_error
            break
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DefinitionError(
        f"{owner}: its type cannot be described to a model ({reason.rstrip('.')}).",
        hint="Use types that JSON can carry: str, int, float, bool, list, dict, Literal, pydantic models, dataclasses.",
    )
