"""`typing.TypedDict` for pydantic, which takes only that of typing_extensions before Python 3.12."""

from __future__ import annotations

import sys
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)


def for_pydantic(annotation: Any, within: tuple[Any, ...] = ()) -> Any:
    """Return a type in which each `typing.TypedDict` is one that pydantic takes; others are left as they are.

    `within` are those that it is part of: a recursive one stays, and is an error of pydantic's.
    """
    if sys.version_info >= (3, 12) or annotation in within:
        return annotation
    if is_typeddict(annotation):
        return _taken(annotation, (*within, annotation))
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[(for_pydantic(parts[0], within), *parts[1:])]
    made = tuple(for_pydantic(part, within) for part in parts)
    if made == parts:
        return annotation
    if origin is UnionType:
        return Union[made]  # noqa: UP007 - of a tuple
    return annotation.copy_with(made) if hasattr(annotation, "copy_with") else origin[made]


def _taken(wanted: Any, within: tuple[Any, ...]) -> Any:
    import typing_extensions

    try:
        hints = get_type_hints(wanted, include_extras=True)
    except NameError:
        return wanted  # pydantic says which name
    fields = {name: for_pydantic(hint, within) for name, hint in hints.items()}
    for name in wanted.__optional_keys__:
        if get_origin(fields[name]) not in (Required, NotRequired):
            fields[name] = NotRequired[fields[name]]
    make: Any = typing_extensions.TypedDict
    made = make(wanted.__name__, fields)
    made.__doc__, made.__module__ = wanted.__doc__, wanted.__module__
    if (configuration := getattr(wanted, "__pydantic_config__", None)) is not None:
        made.__pydantic_config__ = configuration
    return made
