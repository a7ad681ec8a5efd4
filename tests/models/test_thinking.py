from __future__ import annotations

import pytest

from flue.messages import ThinkingLevel
from flue.models.catalog import find_model
from flue.models.compat import Compat, compat_for
from flue.models.thinking import clamp_level, level_name, supported_levels
from flue.ports import ModelInfo

THINKER = ModelInfo("acme", "m", "x", reasoning=True)
TALKER = ModelInfo("acme", "m", "x")


def test_a_model_that_does_not_reason_is_never_asked_to() -> None:
    assert clamp_level(TALKER, Compat(), "high") == "off"


def test_without_word_from_the_catalogue_all_levels_but_the_highest_are_there() -> None:
    assert supported_levels(THINKER, Compat()) == ("off", "minimal", "low", "medium", "high")
    assert clamp_level(THINKER, Compat(), "xhigh") == "high"


@pytest.mark.parametrize(
    ("levels", "wanted", "given"),
    [
        ((("xhigh", "max"),), "xhigh", "xhigh"),
        ((("off", None),), "off", "minimal"),
        ((("minimal", None), ("low", None), ("medium", None)), "minimal", "high"),
        ((("medium", None), ("high", None)), "medium", "low"),
        ((("off", None), ("minimal", None), ("medium", None)), "medium", "high"),
    ],
)
def test_a_level_that_is_missing_becomes_the_nearest_higher_then_the_nearest_lower(
    levels: tuple[tuple[str, str | None], ...], wanted: ThinkingLevel, given: ThinkingLevel
) -> None:
    assert clamp_level(THINKER, Compat(thinking_levels=levels), wanted) == given


def test_levels_have_the_names_the_model_gives_them() -> None:
    compat = Compat(thinking_levels=(("xhigh", "max"), ("off", None)))
    assert level_name(compat, "xhigh") == "max"
    assert level_name(compat, "low") == "low"


def test_the_catalogues_levels_reach_the_model() -> None:
    found = find_model("google", "gemini-3-pro-preview")
    assert found is not None
    compat = compat_for(found.base_url, found.flags)
    assert supported_levels(found.info, compat) == ("low", "high")
    assert level_name(compat, "high") == "HIGH"
