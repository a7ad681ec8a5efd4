from __future__ import annotations

import pytest

from flue.cloudflare.names import REGISTRY, agent_class, durable_classes, workflow_class
from flue.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "class_name"),
    [("support-chat", "SupportChat"), ("a", "A"), ("gpt-5-helper", "Gpt5Helper"), ("support_chat", "SupportChat")],
)
def test_an_agent_is_bound_under_the_name_of_its_class(name: str, class_name: str) -> None:
    found = agent_class(name)
    assert (found.kind, found.name, found.class_name, found.binding) == ("agent", name, class_name, class_name)


@pytest.mark.parametrize("name", ["daily-report", "daily_report"])
def test_a_workflow_has_a_class_ending_in_workflow_and_a_binding_in_capitals(name: str) -> None:
    found = workflow_class(name)
    assert (found.kind, found.class_name, found.binding) == (
        "workflow",
        "DailyReportWorkflow",
        "FLUE_WORKFLOW_DAILY_REPORT",
    )


def test_a_project_has_its_agents_and_workflows_by_name_and_then_the_registry() -> None:
    classes = durable_classes({"b": "b.py", "a": "a.py"}, {"report": "r.py"})
    assert [found.class_name for found in classes] == ["A", "B", "ReportWorkflow", "FlueRegistry"]
    assert classes[-1] == REGISTRY
    assert (REGISTRY.binding, REGISTRY.name) == ("FLUE_REGISTRY", "default")


def test_all_files_with_unusable_names_are_listed_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        durable_classes({"Chat": "agents/Chat.py", "ok": "agents/ok.py"}, {"2nd": "workflows/2nd.py", "a--b": "x.py"})
    assert caught.value.code == "invalid_name"
    assert 'agents/Chat.py ("Chat"), workflows/2nd.py ("2nd"), x.py ("a--b")' in str(caught.value)
    assert "ok.py" not in str(caught.value)


@pytest.mark.parametrize("name", ["default", "none", "true", "durable-object", "worker-entrypoint"])
def test_a_class_cannot_be_named_as_something_that_the_worker_uses_itself(name: str) -> None:
    with pytest.raises(ConfigError, match="a Worker uses itself") as caught:
        durable_classes({name: f"agents/{name}.py"}, {})
    assert caught.value.code == "invalid_name"


@pytest.mark.parametrize(
    ("agents", "workflows", "class_name"),
    [
        ({"a-1": "agents/a_1.py", "a1": "agents/a1.py"}, {}, "A1"),
        ({"report-workflow": "agents/x.py"}, {"report": "workflows/y.py"}, "ReportWorkflow"),
        ({"flue-registry": "agents/flue_registry.py"}, {}, "FlueRegistry"),
    ],
)
def test_files_that_would_share_a_class_are_named(
    agents: dict[str, str], workflows: dict[str, str], class_name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        durable_classes(agents, workflows)
    assert caught.value.code == "duplicate_name"
    assert f"{class_name} (" in str(caught.value)
    assert all(file in str(caught.value) for file in [*agents.values(), *workflows.values()])
