"""The annotations of a tool's parameters: structure at definition, types when they are first needed."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin, get_type_hints

from flue.errors import DefinitionError

_REFUSED_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values",
    inspect.Parameter.VAR_KEYWORD: "takes values of any name",
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
}
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_FORWARD_REF = re.compile(r"ForwardRef\(('[^']*')[^)]*\)")
_CONTEXT_TEXT = re.compile(r"['\"]?(?:(?:\w+\.)*Optional\[)?(?:\w+\.)*ToolContext\]?(?:\s*\|\s*None)?['\"]?")


def tool_parameters(function: Callable[..., Any], owner: str) -> dict[str, inspect.Parameter]:
    """Return a function's parameters after checking that a model can fill them; types may still be unresolved.

    Raises `DefinitionError` for a parameter without an annotation or of a kind that JSON cannot fill.
    """
    try:
        parameters = _signature(function).parameters
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"{owner}: the parameters of {function!r} cannot be read ({error}).",
            hint="Wrap it in a function with annotated parameters.",
        ) from None
    bound = function.keywords if isinstance(function, functools.partial) else {}
    found = {name: parameter for name, parameter in parameters.items() if name not in bound}
    for parameter in found.values():
        _check_parameter(parameter, owner)
    return found


def needed_locals(
    function: Callable[..., Any], parameters: Iterable[inspect.Parameter], caller_locals: Mapping[str, Any]
) -> dict[str, Any]:
    """Return those of the caller's local variables that an annotation may name, and no more."""
    module = _globals_of(function)
    names = {
        name
        for parameter in parameters
        for text in _unresolved_texts(parameter.annotation)
        for name in _IDENTIFIER.findall(text)
    }
    # At module level the locals are the globals: leaving them out keeps later definitions visible.
    return {
        name: caller_locals[name]
        for name in sorted(names & caller_locals.keys())
        if name not in module or module[name] is not caller_locals[name]
    }


def resolve_annotations(
    function: Callable[..., Any], owner: str, names: Iterable[str], local_names: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the type of each parameter in `names`, `Annotated` metadata included.

    Raises `DefinitionError` naming the parameter and the name when one cannot be found.
    """
    annotations = {name: _signature(function).parameters[name].annotation for name in names}
    scope = {**_closure_of(function), **local_names}
    return {
        name: _resolve(annotation, f"{owner}, parameter {name!r}", _globals_of(function), scope)
        for name, annotation in annotations.items()
    }


def is_tool_context(annotation: Any) -> bool:
    """Say whether a resolved annotation means the context of the call, perhaps optional."""
    from flue.definitions.tool import ToolContext

    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return {argument for argument in get_args(annotation) if argument is not type(None)} == {ToolContext}
    return annotation is ToolContext


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated when asked for; names that are not there yet stay forward references.
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _check_parameter(parameter: inspect.Parameter, owner: str) -> None:
    if parameter.kind in _REFUSED_KINDS:
        raise DefinitionError(
            f"{owner}: parameter {str(parameter).split(':')[0]!r} {_REFUSED_KINDS[parameter.kind]}.",
            hint="Give every argument of the tool a parameter of its own that can be passed by name.",
        )
    if parameter.annotation is inspect.Parameter.empty:
        raise DefinitionError(
            f"{owner}: parameter {parameter.name!r} has no type annotation.",
            hint="Annotate it: the model learns from the type what to send (ToolContext is filled in for you).",
        )


def _unresolved_texts(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, ForwardRef):
        yield annotation.__forward_arg__
    else:
        for argument in get_args(annotation):
            yield from _unresolved_texts(argument)


def _resolve(annotation: Any, owner: str, module: Mapping[str, Any], scope: Mapping[str, Any]) -> Any:
    from flue.definitions.tool import ToolContext

    # `get_type_hints` takes anything that has annotations: one at a time names the parameter that fails.
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, dict(module), dict(scope), include_extras=True)["it"]
    except NameError as error:
        if isinstance(annotation, str) and _CONTEXT_TEXT.fullmatch(annotation):
            return ToolContext  # Imported for type checkers only.
        raise DefinitionError(
            f"{owner}: the name {error.name!r} in the annotation {_show(annotation)} is not defined.",
            hint="Import or define it where the tool is defined, outside `if TYPE_CHECKING`.",
        ) from None
    except Exception as error:  # noqa: BLE001 - an annotation may be any expression.
        raise DefinitionError(f"{owner}: the annotation {_show(annotation)} is no type ({error}).") from None


def _show(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return repr(annotation.__forward_arg__)
    return _FORWARD_REF.sub(r"\1", repr(annotation))


def _plain_function(function: Callable[..., Any]) -> Any:
    """Return the function behind partials, wrappers, methods and callable objects."""
    found: Any = function
    while isinstance(found, functools.partial):
        found = found.func
    if not inspect.isroutine(found) and not inspect.isclass(found):
        found = type(found).__call__
    return inspect.unwrap(getattr(found, "__func__", found))


def _globals_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    plain = _plain_function(function)
    found = getattr(plain, "__globals__", None)
    if found is None:
        found = vars(sys.modules.get(getattr(plain, "__module__", None) or "") or types.ModuleType(""))
    return dict(found) if not isinstance(found, dict) else found


def _closure_of(function: Callable[..., Any]) -> dict[str, Any]:
    plain = _plain_function(function)
    names = getattr(getattr(plain, "__code__", None), "co_freevars", ())
    cells = getattr(plain, "__closure__", None) or ()
    found = {}
    for name, cell in zip(names, cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # The variable has no value yet.
            continue
    return found
