"""Tools from functions: schema, docstring, injection, validated calls."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from pydantic import AfterValidator, BaseModel, Field

from flue.definitions.arguments_error import ArgumentsError
from flue.definitions.docstring import split_docstring
from flue.definitions.tool import Tool, ToolContext, tool
from flue.errors import DefinitionError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

    from flue.definitions.tool import ToolContext as OnlyForTypeCheckers

CONTEXT = ToolContext("call_1", "default", None, {})


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where someone lives."""

    title: str
    city: str = "Berlin"


async def run(made: Tool, **arguments: Any) -> Any:
    return await made.run(arguments, CONTEXT)


def test_a_schema_has_types_defaults_and_descriptions_and_no_titles() -> None:
    @tool
    def search(query: str, limit: int = 10, tags: list[str] | None = None, deep: bool = False) -> str:
        """Search the archive.

        Args:
            query: What to look for,
                in any language.
            limit (int, optional): At most so many: more is slow.
        """
        return ""

    assert search.name == "search"
    assert search.description == "Search the archive."
    assert search.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for, in any language."},
            "limit": {"type": "integer", "default": 10, "description": "At most so many: more is slow."},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
            "deep": {"type": "boolean", "default": False},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_a_function_without_parameters_has_an_empty_object_schema() -> None:
    @tool
    def now() -> str:
        """Tell the time."""
        return "late"

    assert now.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_property_called_title_survives_and_nested_models_are_described() -> None:
    @tool
    def move(to: Address, title: Literal["mr", "ms"]) -> None:
        """Move."""

    schema = move.parameters
    assert schema["properties"]["title"] == {"enum": ["mr", "ms"], "type": "string"}
    address = schema["$defs"]["Address"]
    assert address["description"] == "Where someone lives."
    assert address["properties"] == {"title": {"type": "string"}, "city": {"type": "string", "default": "Berlin"}}


class Parcel(TypedDict):
    weight: int
    note: NotRequired[str]


async def test_arguments_may_be_typed_dictionaries() -> None:
    @tool
    def pack(first: Parcel, others: list[Parcel] | None = None) -> int:
        """Pack."""
        return first["weight"] + sum(parcel["weight"] for parcel in others or ())

    assert pack.parameters["$defs"]["Parcel"]["required"] == ["weight"]
    assert await pack.run({"first": {"weight": 1}, "others": [{"weight": 2, "note": "fragile"}]}, CONTEXT) == 3
    with pytest.raises(ArgumentsError, match="weight"):
        await pack.run({"first": {}}, CONTEXT)


async def test_local_types_of_the_caller_stay_resolvable() -> None:
    @dataclass
    class Point:
        x: int
        y: int = 0

    @tool
    def plot(points: list[Point]) -> int:
        """Plot."""
        return sum(point.x for point in points)

    assert await run(plot, points=[{"x": 2}, {"x": 3, "unknown": 1}]) == 5


async def test_types_may_be_defined_after_the_tool_at_module_level() -> None:
    assert await run(uses_later, value={"name": "x"}) == "x"


@tool
def uses_later(value: Later) -> str:
    """Use a type that comes later."""
    return value.name


class Later(BaseModel):
    name: str


async def test_a_local_type_may_be_defined_after_the_tool_that_uses_it() -> None:
    @tool
    def make(value: Late) -> bool:
        """Make."""
        return isinstance(value, Late)

    class Late(BaseModel):
        name: str

    assert await run(make, value={"name": "x"})


def test_a_name_of_the_module_means_what_it_means_when_the_schema_is_built() -> None:
    namespace: dict[str, Any] = {"tool": tool, "__name__": "made_up"}
    source = '''
from __future__ import annotations
Size = int

@tool
def scale(size: Size) -> None:
    """Scale."""

Size = str
'''
    exec(source, namespace)  # noqa: S102 - a module of its own.
    assert namespace["scale"].parameters["properties"]["size"] == {"type": "string"}


def test_other_local_variables_of_the_caller_are_not_kept_alive() -> None:
    class Big:
        pass

    def define() -> tuple[Tool, weakref.ref[Big]]:
        big = Big()

        @tool
        def small(x: int) -> int:
            """Small."""
            return x

        return small, weakref.ref(big)

    made, big = define()
    gc.collect()
    assert big() is None
    assert made.name == "small"


def test_an_unknown_name_is_reported_with_tool_parameter_and_name() -> None:
    @tool(name="broken")
    def function(ok: int, bad: list[Missing]) -> None:
        """Break."""

    with pytest.raises(DefinitionError, match=r"""tool "broken", parameter 'bad': the name 'Missing'""") as raised:
        _ = function.parameters
    assert raised.value.code == "invalid_definition"


@pytest.mark.parametrize("annotation", [Callable[[], int], Tool, "list[", "5 + ", object(), 5, "7"])
def test_a_type_that_json_cannot_carry_is_reported_with_tool_and_parameter(annotation: Any) -> None:
    def function(ok: int, bad: int) -> None: ...

    function.__annotations__["bad"] = annotation
    made = tool(name="odd", description="Odd.")(function)
    with pytest.raises(DefinitionError, match=r"""tool "odd", parameter 'bad'"""):
        _ = made.parameters


def test_structure_is_checked_where_the_tool_is_defined() -> None:
    def unannotated(x) -> None: ...  # type: ignore[no-untyped-def]
    def many(*values: int) -> None: ...
    def named(**values: int) -> None: ...
    def positional(x: int, /) -> None: ...
    def generator(x: int) -> Any:
        yield x

    refused: list[tuple[Callable[..., Any], str]] = [
        (unannotated, "'x' has no type annotation"),
        (many, r"'\*values' takes any number of values"),
        (named, r"'\*\*values' takes values of any name"),
        (positional, "'x' is positional-only"),
        (generator, "yields values"),
    ]
    for function, problem in refused:
        with pytest.raises(DefinitionError, match=problem):
            tool(description="Does it.")(function)


@pytest.mark.parametrize("name", ["größe", "<lambda>", "order status", "a" * 65, "shop.order"])
def test_a_name_that_providers_refuse_is_refused_where_the_tool_is_defined(name: str) -> None:
    def status(order: str) -> str:
        return order

    refused = "a tool's name must be letters of ASCII, digits, _ and -"
    with pytest.raises(DefinitionError, match=refused):
        tool(name=name, description="Does it.")(status)
    with pytest.raises(DefinitionError, match=refused):
        tool(name=name, description="Does it.", parameters={}, execute=lambda _arguments, _context: None)


@pytest.mark.e2e
def test_defining_a_tool_does_not_import_pydantic() -> None:
    program = """
import sys
from flue.definitions.tool import tool

@tool
def greet(name: str, times: int = 1) -> str:
    '''Greet.

    Args:
        name: whom
    '''
    return name * times

assert "pydantic" not in sys.modules
assert greet.description == "Greet."
assert "pydantic" not in sys.modules
assert greet.parameters["required"] == ["name"]
assert "pydantic" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_the_context_is_injected_and_hidden_from_the_model() -> None:
    @tool
    def plain(x: int, context: ToolContext) -> str:
        """One."""
        return f"{x} {context.tool_call_id}"

    @tool
    def optional(context: ToolContext | None = None) -> str:
        """Two."""
        return context.tool_call_id if context else "none"

    @tool
    def annotated(*, context: Annotated[ToolContext, "who"]) -> str:
        """Three."""
        return context.tool_call_id

    @tool
    def imported_for_types(context: OnlyForTypeCheckers, other: ToolContext) -> str:
        """Four."""
        return context.tool_call_id + other.session

    assert await run(plain, x=1) == "1 call_1"
    assert await run(optional) == "call_1"
    assert await run(annotated) == "call_1"
    assert list(plain.parameters["properties"]) == ["x"]
    assert optional.parameters["properties"] == annotated.parameters["properties"] == {}
    with pytest.raises(DefinitionError, match="OnlyForTypeCheckers"):
        _ = imported_for_types.parameters


def test_a_context_type_that_only_type_checkers_import_is_recognised_by_its_name() -> None:
    namespace: dict[str, Any] = {"tool": tool}
    source = '''
from __future__ import annotations

@tool
def look(x: int, ctx: ToolContext, other: flue.ToolContext | None = None) -> int:
    """Look."""
    return x
'''
    exec(source, namespace)  # noqa: S102 - a module that lacks the import.
    assert list(namespace["look"].parameters["properties"]) == ["x"]


async def test_arguments_arrive_as_the_annotated_types() -> None:
    received: dict[str, Any] = {}

    @tool
    def take(address: Address, colour: Colour, day: dt.date, pair: tuple[int, str], names: set[str]) -> None:
        """Take."""
        received.update(address=address, colour=colour, day=day, pair=pair, names=names)

    await run(take, address={"title": "x"}, colour="red", day="2026-01-02", pair=[1, "a"], names=["b"])
    assert received == {
        "address": Address(title="x"),
        "colour": Colour.RED,
        "day": dt.date(2026, 1, 2),
        "pair": (1, "a"),
        "names": {"b"},
    }


async def test_arguments_that_do_not_fit_are_listed_for_the_model() -> None:
    def even(value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value

    @tool
    def take(address: Address, n: Annotated[int, AfterValidator(even)]) -> None:
        """Take."""

    with pytest.raises(ArgumentsError) as raised:
        await run(take, address={"city": 5}, n=3, extra=1)
    assert str(raised.value) == (
        'Validation failed for tool "take":\n'
        "  - address.title: Field required\n"
        "  - address.city: Input should be a valid string\n"
        "  - n: Value error, must be even\n"
        "  - extra: must not be given\n\n"
        'Received arguments:\n{\n  "address": {\n    "city": 5\n  },\n  "n": 3,\n  "extra": 1\n}'
    )
    assert raised.value.code == "invalid_arguments"


async def test_defaults_are_the_functions_own_objects() -> None:
    marker = object()
    shared: list[int] = []

    @tool
    def collect(x: int, into: list[int] = shared, other: Any = marker) -> bool:
        """Collect."""
        into.append(x)
        return other is marker

    assert await run(collect, x=1)
    assert shared == [1]
    assert "default" not in collect.parameters["properties"]["other"]


async def test_a_parameter_that_defaults_to_none_accepts_null() -> None:
    @tool
    def page(size: int = None) -> int | None:  # type: ignore[assignment]  # noqa: RUF013
        """Page."""
        return size

    assert page.parameters["properties"]["size"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert await run(page, size=None) is None
    assert await run(page, size=3) == 3


async def test_field_descriptions_and_constraints_win_over_the_docstring() -> None:
    @tool
    def take(
        a: Annotated[int, Field(description="from the annotation", ge=1)],
        b: int = Field(default=7, description="from the default", le=9),
        c: Annotated[int, Field(le=3)] = 2,
    ) -> int:
        """Take.

        Args:
            a: from the docstring
            b: from the docstring
            c: from the docstring
        """
        return b

    assert take.parameters["properties"] == {
        "a": {"type": "integer", "minimum": 1, "description": "from the annotation"},
        "b": {"type": "integer", "maximum": 9, "default": 7, "description": "from the default"},
        "c": {"type": "integer", "maximum": 3, "default": 2, "description": "from the docstring"},
    }
    assert await run(take, a=1) == 7


async def test_parameters_may_have_names_that_pydantic_keeps_for_itself() -> None:
    @tool
    def take(schema: str, model_config: str, _hidden: str, copy: str, json: str) -> str:
        """Take."""
        return schema + model_config + _hidden + copy + json

    assert list(take.parameters["properties"]) == ["schema", "model_config", "_hidden", "copy", "json"]
    assert await run(take, schema="a", model_config="b", _hidden="c", copy="d", json="e") == "abcde"


async def test_methods_callable_objects_partials_and_wrapped_functions_are_tools() -> None:
    class Counter:
        """Counts."""

        def __init__(self) -> None:
            self.total = 0

        async def add(self, amount: int) -> int:
            """Add an amount."""
            self.total += amount
            return self.total

        def __call__(self, by: Later, *, context: ToolContext) -> str:
            return by.name + context.session

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @tool
    @logged
    def wrapped(value: Later) -> str:
        """Wrap."""
        return value.name

    def connect(client: object, text: str) -> str:
        return f"{client!r} {text}"

    counter = Counter()
    add = tool(counter.add)
    assert add.parameters["required"] == ["amount"]
    assert await run(add, amount=2) == 2
    called = tool(name="count")(counter)
    assert called.description == "Counts."
    assert await run(called, by={"name": "x"}) == "xdefault"
    assert await run(wrapped, value={"name": "y"}) == "y"
    part = tool(name="connect", description="Connect.")(functools.partial(connect, client=None))
    assert list(part.parameters["properties"]) == ["text"]
    assert await run(part, text="z") == "None z"


def test_a_description_passed_to_tool_leaves_the_docstrings_parameters() -> None:
    @tool(description="For the model.")
    def take(x: int) -> None:
        """Do it, for programmers.

        Args:
            x: how much
        """

    assert take.description == "For the model."
    assert take.parameters["properties"]["x"]["description"] == "how much"


async def test_an_alias_of_a_field_is_what_the_model_sends() -> None:
    @tool
    def move(from_: Annotated[str, Field(alias="from")]) -> str:
        """Move."""
        return from_

    assert list(move.parameters["properties"]) == ["from"]
    assert await move.run({"from": "here"}, CONTEXT) == "here"


GOOGLE = """Do it.

Arguments:
    a: one
      more

      and more
    b (dict[str, int], optional): two: three
    not_a_parameter: belongs to b

Returns:
    a: not a parameter
"""
NUMPY = """
    Do it.

    Parameters
    ----------
    a : int
        one
        more

        and more
    b, c : str, optional
        two

    Returns
    -------
    a : int
        not a parameter
"""
SPHINX = """Do it.

:param a: one
    more
:type a: int
:param dict[str, int] b: two
:returns: a thing
"""


@pytest.mark.parametrize(
    ("docstring", "description", "found"),
    [
        (
            GOOGLE,
            "Do it.\n\nReturns:\n    a: not a parameter",
            {"a": "one more and more", "b": "two: three not_a_parameter: belongs to b"},
        ),
        (
            NUMPY,
            "Do it.\n\nReturns\n-------\na : int\n    not a parameter",
            {"a": "one more and more", "b": "two", "c": "two"},
        ),
        (SPHINX, "Do it.\n\n:returns: a thing", {"a": "one more", "b": "two"}),
        ("Do it.\n\nArgs:\n    what follows is prose: yes", "Do it.\n\nArgs:\n    what follows is prose: yes", {}),
        ("Parameters\n----------\nnone of them", "Parameters\n----------\nnone of them", {}),
        ("Do it.\n\nArgs:\n    a: one\n\nThen stop.", "Do it.\n\nThen stop.", {"a": "one"}),
        ("Args:", "Args:", {}),
        ("", "", {}),
    ],
)
def test_parameter_sections_of_all_three_styles_are_taken_out(
    docstring: str, description: str, found: dict[str, str]
) -> None:
    assert split_docstring(docstring, ["a", "b", "c"]) == (description, found)


async def test_a_tool_with_another_callable_is_the_same_tool_to_models_and_people() -> None:
    @tool(approval=True)
    async def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    async def note(arguments: dict[str, Any], _: ToolContext) -> str:
        return f"noted {arguments}"

    noted = pay.with_execute(note)
    assert noted.spec is pay.spec
    assert noted.may_need_approval
    assert await run(noted, amount="5") == "noted {'amount': '5'}"
    assert await run(pay, amount="5") == "paid 5"
