"""Typed results: what is accepted, what is asked for again, what is raised."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Required, TypedDict

import pytest
from pydantic import BaseModel, ConfigDict, Field

from flue import DefinitionError, ResultUnavailableError
from flue.testing import call
from tests.harness.scene import assert_sound, scene


class Translation(BaseModel):
    translation: str
    confidence: Literal["low", "medium", "high"] = "medium"


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Programme(TypedDict, total=False):
    """What is on."""

    cinema: Required[str]
    first: Movie
    then: list[Movie | None]
    note: Annotated[str, Field(max_length=5)]


class Colour(enum.Enum):
    RED = "red"


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date


class Tree(BaseModel):
    name: str
    children: list[Tree] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("wanted", "arguments", "expected"),
    [
        (Translation, {"translation": "Bonjour"}, Translation(translation="Bonjour")),
        (Point, {"x": "1"}, Point(1)),
        (Movie, {"title": "Alien"}, {"title": "Alien"}),
        (Colour, {"result": "red"}, Colour.RED),
        (str, {"result": "yes"}, "yes"),
        (bool, {"result": "true"}, True),
        (list[int], {"result": [1, "2"]}, [1, 2]),
        (list[Movie], {"result": [{"title": "M"}]}, [{"title": "M"}]),
        (Movie | None, {"result": {"title": "M"}}, {"title": "M"}),
        (Programme, {"cinema": "Roxy"}, {"cinema": "Roxy"}),
        (
            Programme,
            {"cinema": "Roxy", "first": {"title": "M"}, "then": [None, {"title": "Z"}]},
            {"cinema": "Roxy", "first": {"title": "M"}, "then": [None, {"title": "Z"}]},
        ),
        (Literal["a", "b"], {"result": "b"}, "b"),
        (Strict, {"day": "2026-11-20"}, Strict(day=date(2026, 11, 20))),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree(name="a", children=[Tree(name="b")])),
        (list[Tree], {"result": [{"name": "a"}]}, [Tree(name="a")]),
        ({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, {"n": "3"}, {"n": 3}),
        ({"type": "array", "items": {"type": "string"}}, {"result": ["a"]}, ["a"]),
    ],
    ids=str,
)
async def test_a_result_has_the_type_that_was_asked_for(wanted: Any, arguments: dict[str, Any], expected: Any) -> None:
    async with scene(call("finish", arguments)) as s:
        reply = await s.session.prompt("Go.", result=wanted)
        assert reply.data == expected
        assert type(reply.data) is type(expected)
        finish = next(spec for spec in s.model.requests[0].tools if spec.name == "finish")
        assert finish.parameters["type"] == "object"
        assert "$schema" not in finish.parameters
        assert reply.to_json()["data"] == reply.to_json()["result"]
        assert_sound(s.messages)


@pytest.mark.parametrize("wrong", [{}, {"cinema": "Roxy", "then": [{}]}, {"cinema": "Roxy", "note": "too long"}])
async def test_a_typed_dictionary_is_checked_through_and_through(wrong: dict[str, Any]) -> None:
    async with scene(call("finish", wrong), call("finish", {"cinema": "Roxy"})) as s:
        reply = await s.session.prompt("Go.", result=Programme)
        assert reply.data == {"cinema": "Roxy"}
        finish = next(spec for spec in s.model.requests[0].tools if spec.name == "finish")
        assert (finish.parameters["description"], finish.parameters["required"]) == ("What is on.", ["cinema"])


async def test_a_result_that_does_not_fit_is_asked_for_again() -> None:
    wrong = call("finish", {"translation": "Bonjour", "confidence": "sure"})
    right = call("finish", {"translation": "Bonjour", "confidence": "low"})
    async with scene(wrong, right) as s:
        reply = await s.session.prompt("Go.", result=Translation)
        assert reply.data.confidence == "low"
        complaint = s.messages[2].content[0].text  # type: ignore[union-attr]
        assert "confidence" in complaint


async def test_a_validator_of_the_users_own_speaks_to_the_model() -> None:
    class Even(BaseModel):
        number: int

        def model_post_init(self, _context: Any) -> None:
            if self.number % 2:
                raise ValueError("must be even")

    async with scene(call("finish", {"number": 3}), call("finish", {"number": 4})) as s:
        assert (await s.session.prompt("Go.", result=Even)).data.number == 4
        assert "must be even" in s.messages[2].content[0].text  # type: ignore[union-attr]


async def test_a_model_that_only_talks_is_reminded() -> None:
    async with scene("The answer is 7.", call("finish", {"result": 7})) as s:
        assert (await s.session.prompt("Go.", result=int)).data == 7
        assert [entry.to_json().get("source") for entry in s.session.history.path] == [
            "prompt",
            None,
            "retry",
            None,
            None,
        ]


async def test_reminding_ends_after_33_attempts() -> None:
    async with scene(*["Seven."] * 33) as s:
        with pytest.raises(ResultUnavailableError, match="33 attempts") as raised:
            await s.session.prompt("Go.", result=int)
        assert raised.value.assistant_text == "Seven."
        assert len(s.model.requests) == 33


async def test_giving_up_raises_with_the_reason() -> None:
    async with scene(["I looked everywhere.", call("give_up", {"reason": "no such file"})], "Fine.") as s:
        with pytest.raises(ResultUnavailableError, match="The agent gave up: no such file") as raised:
            await s.session.prompt("Go.", result=int)
        assert raised.value.assistant_text == "I looked everywhere."
        assert (await s.session.prompt("Never mind.")).text == "Fine."


async def test_only_the_first_of_two_results_counts() -> None:
    async with scene([call("finish", {"result": 1}), call("finish", {"result": 2})]) as s:
        assert (await s.session.prompt("Go.", result=int)).data == 1
        assert not s.messages[3].is_error  # type: ignore[union-attr]


async def test_images_are_sent_with_the_first_attempt_only() -> None:
    from flue import ImageContent

    async with scene("hm", call("finish", {"result": 7})) as s:
        await s.session.prompt("Go.", result=int, images=[ImageContent("aGk=", "image/png")])
        assert [len(message.content) for message in s.messages if message.role == "user"] == [2, 1]


class Opaque:
    pass


class Unfinished(BaseModel):
    part: Missing  # type: ignore[name-defined]  # noqa: F821 - as in a module that forgot an import


@pytest.mark.parametrize("wanted", [Opaque, "Translation", Unfinished, Translation(translation="Bonjour")])
async def test_a_type_without_a_schema_is_refused_before_anything_is_sent(wanted: Any) -> None:
    async with scene() as s:
        with pytest.raises(DefinitionError, match="cannot be used as a result type") as refused:
            s.session.prompt("Go.", result=wanted)
        assert (refused.value.code, len(str(refused.value).splitlines())) == ("invalid_schema", 1)
        assert not s.model.requests
