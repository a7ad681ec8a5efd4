from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from flue.errors import UsageError
from flue.harness.json_values import json_result
from flue.messages import Usage


class Colour(Enum):
    RED = "red"


class Answer(BaseModel):
    at: datetime
    colours: set[Colour]


@dataclass
class Part:
    id: UUID
    answer: Answer


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - untyped named tuples are results, too

ANSWER = Answer(at=datetime(2026, 1, 2, tzinfo=UTC), colours={Colour.RED})
ANSWER_JSON = {"at": "2026-01-02T00:00:00Z", "colours": ["red"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({"a": [1, 2.5, True, "x", None]}, {"a": [1, 2.5, True, "x", None]}),
        ((1, 2), [1, 2]),
        (ANSWER, ANSWER_JSON),
        (Part(UUID(int=1), ANSWER), {"id": "00000000-0000-0000-0000-000000000001", "answer": ANSWER_JSON}),
        ([{"deep": ANSWER}], [{"deep": ANSWER_JSON}]),
        (Pair(1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert json_result(value) == expected


def test_responses_have_their_wire_form_wherever_they_stand() -> None:
    usage = Usage(input=1)
    assert json_result({"usage": [usage]}) == {"usage": [usage.to_json()]}


@pytest.mark.parametrize("value", [object(), float("nan"), {"a": [float("inf")]}, lambda: 1])
def test_what_json_cannot_carry_is_an_error_naming_the_type(value: Any) -> None:
    with pytest.raises(UsageError, match=f"of type {type(value).__name__}, cannot be written as JSON") as caught:
        json_result(value)
    assert caught.value.code == "invalid_result"


def test_a_value_that_holds_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        json_result(value)
