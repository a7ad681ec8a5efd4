from __future__ import annotations

from collections.abc import Iterator

import pytest

from flue.registrations import Registrations, using_registrations


@pytest.fixture(autouse=True)
def registrations() -> Iterator[Registrations]:
    """Keep subscriptions out of other tests."""
    with using_registrations(Registrations()) as registrations:
        yield registrations
