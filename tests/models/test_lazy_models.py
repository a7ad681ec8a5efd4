from __future__ import annotations

import subprocess
import sys

import pytest

import flue.models

PROGRAM = """
import sys
import flue.models
heavy = [name for name in ("httpx2", "pydantic", "json", "flue.models.source") if name in sys.modules]
assert not heavy, heavy
import flue.models.source, flue.models.http, flue.models.anthropic_messages, flue.models.google_generative_ai
heavy = [name for name in ("httpx2", "pydantic") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.e2e
def test_importing_the_models_loads_no_client_and_no_catalogue() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


@pytest.mark.parametrize("name", flue.models.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(flue.models, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = flue.models.nonsense
