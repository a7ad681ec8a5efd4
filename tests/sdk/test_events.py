"""What the client says of events is what the server sends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints

import pytest

from flue import events as server
from flue.sdk import events as client
from tests.architecture.test_import_budget import loaded_by


def server_types(kind: type[server.Event] = server.Event) -> Iterator[type[server.Event]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith(f"{server.__name__}."):
            yield each
        yield from server_types(each)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def hints(event: Any) -> dict[str, Any]:
    return get_type_hints(event, include_extras=True)


def type_of(event: Any) -> str:
    (name,) = get_args(hints(event)["type"])
    return str(name)


CLIENT = {type_of(event): event for event in get_args(client.Event)}
SERVER = {event.type: event for event in server_types() if event.type}
# These write their JSON themselves; their fields are checked by hand.
BY_HAND = {
    "turn_request": {"purpose", "model", "provider", "api", "input", "reasoning"},
    "message_update": {"message", "assistantMessageEvent"},
    "turn": {
        *("purpose", "durationMs", "model", "provider", "api"),
        *("output", "usage", "stopReason", "isError", "error"),
    },
}


def test_there_is_a_type_for_each_event_and_none_beside() -> None:
    assert CLIENT.keys() == SERVER.keys()


@pytest.mark.parametrize("type", SERVER)
def test_an_event_has_the_fields_that_the_server_gives_it(type: str) -> None:
    own = [field for field in dataclasses.fields(SERVER[type]) if field.name not in ("scope", "index", "at_ms")]
    sent = BY_HAND.get(type, {camel(field.name) for field in own})
    common = client._Common.__annotations__.keys()
    assert hints(CLIENT[type]).keys() - common - {"type"} == sent


@pytest.mark.parametrize("type", SERVER.keys() - BY_HAND.keys())
def test_a_field_that_may_be_left_out_says_so(type: str) -> None:
    always = SERVER[type].always
    optional = {
        camel(field.name)
        for field in dataclasses.fields(SERVER[type])
        if field.default is None and field.name not in always
    }
    said = {name for name, hint in hints(CLIENT[type]).items() if get_origin(hint) is NotRequired}
    assert said - client._Common.__annotations__.keys() == optional


def test_every_event_may_say_where_it_happened() -> None:
    scope = {camel(field.name) for field in dataclasses.fields(server.Scope)}
    assert client._Common.__annotations__.keys() == scope | {"eventIndex", "timestamp"}


def test_type_checkers_narrow_an_event_by_its_type() -> None:
    event: client.Event = {"type": "text_delta", "text": "Hi", "eventIndex": 0, "timestamp": ""}
    assert get_origin(hints(client.TextDelta)["type"]) is Literal
    if event["type"] == "text_delta":
        text: str = event["text"]
        assert text == "Hi"


@pytest.mark.parametrize(
    "statement", ["import flue.sdk", "from flue.sdk import AsyncClient, Client, create_flue_client"]
)
@pytest.mark.e2e
def test_the_client_is_light(statement: str) -> None:
    modules = loaded_by(statement)
    assert not {"httpx2", "websockets", "pydantic", "starlette"} & modules
    heavy = ("flue.server", "flue.engine", "flue.models", "flue.stores")
    assert not [name for name in modules if name.startswith(heavy)]
