from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cloudflare.site import Site, site


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Site]:
    """Have a world to deploy projects to."""
    async with site(tmp_path) as made:
        yield made
