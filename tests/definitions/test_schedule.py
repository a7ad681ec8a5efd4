from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flue import create_agent, schedule
from flue.definitions.schedule import Schedule
from flue.definitions.timing import Timing
from flue.errors import DefinitionError
from flue.registrations import PROCESS, Registrations, using_registrations

AGENT = create_agent(model=False)


@pytest.fixture(autouse=True)
def project() -> Iterator[Registrations]:
    with using_registrations(Registrations(parent=PROCESS)) as registrations:
        yield registrations


def test_a_schedule_belongs_to_the_project_being_loaded(project: Registrations) -> None:
    schedule("support", id="daily", cron="0 9 * * *", input={"do": "sum up"}, missed="skip")
    assert project.schedules == [
        Schedule(
            id="daily",
            timing=Timing(cron="0 9 * * *"),
            missed="skip",
            agent="support",
            instance="daily",
            input={"do": "sum up"},
        )
    ]
    assert PROCESS.schedules == []


def test_an_agent_is_named_or_given_and_may_have_another_instance_and_session(project: Registrations) -> None:
    schedule(AGENT, id="a", every="1h", instance="acme", session="reports")
    (made,) = project.schedules
    assert (made.agent, made.instance, made.session, made.missed) == (AGENT, "acme", "reports", "once")


def test_a_workflow_is_named(project: Registrations) -> None:
    schedule(workflow="daily-report", id="a", every="1h", input={"days": 1})
    (made,) = project.schedules
    assert (made.workflow, made.agent, made.instance, made.input) == ("daily-report", None, "", {"days": 1})


def test_what_is_done_to_the_input_later_does_not_matter(project: Registrations) -> None:
    given = {"list": [1]}
    schedule("support", id="a", every="1h", input=given)
    given["list"].append(2)
    assert project.schedules[0].input == {"list": [1]}


def test_an_id_is_used_once(project: Registrations) -> None:
    schedule("support", id="a", every="1h")
    with pytest.raises(DefinitionError, match='schedule "a": there is one with this id') as error:
        schedule("other", id="a", every="2h")
    assert error.value.code == "duplicate_schedule"
    assert len(project.schedules) == 1


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"id": ""}, "id must be text"),
        ({"id": "a/b"}, "id must be text"),
        ({"id": "x" * 101}, "id must be text"),
        ({"id": 5}, "id must be text"),
        ({"agent": None}, "either an agent or workflow= is needed"),
        ({"workflow": "w"}, "either an agent or workflow= is needed"),
        ({"agent": 5}, "agent must be text"),
        ({"agent": " "}, "agent must not be empty"),
        ({"agent": None, "workflow": ""}, "workflow must not be empty"),
        ({"agent": None, "workflow": "w", "instance": "i"}, "a workflow has neither"),
        ({"agent": None, "workflow": "w", "session": "s"}, "a workflow has neither"),
        ({"instance": ""}, "instance must not be empty"),
        ({"session": ""}, "session must not be empty"),
        ({"missed": "never"}, "missed must be one of skip, once, all"),
        ({"input": {1, 2}}, "input cannot be written as JSON"),
        ({"input": float("nan")}, "input cannot be written as JSON"),
        ({"every": None}, "exactly one of cron, every and at"),
    ],
)
def test_a_mistake_is_named_with_its_field(fields: dict[str, Any], complaint: str, project: Registrations) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        schedule(**{"agent": "support", "id": "a", "every": "1h", **fields})
    assert project.schedules == []
