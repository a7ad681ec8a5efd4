from __future__ import annotations

from tests.architecture.rooms import modules

MAX_LINES = 500


def test_a_module_is_at_most_500_lines_long() -> None:
    lines = {module.name: module.source.count("\n") for module in modules()}
    assert lines
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core", "legacy"}
    assert not [module.name for module in modules() if module.name.rpartition(".")[2] in vague]
