from __future__ import annotations

import pytest

from tests.architecture.rooms import Module, modules

MAX_LINES = 500


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_module_is_at_most_500_lines_long(module: Module) -> None:
    assert module.source.count("\n") <= MAX_LINES


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core", "legacy"}
    assert not [module.name for module in modules() if module.name.rpartition(".")[2] in vague]
