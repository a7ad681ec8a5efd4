"""What some tests need beside Python, and what happens where it is missing."""

from __future__ import annotations

import os

import pytest


def require(condition: bool, reason: str) -> None:
    """Skip the test, but fail it where everything is meant to be there."""
    if not condition and os.environ.get("CI"):
        pytest.fail(reason)
    if not condition:
        pytest.skip(reason)
