"""A Durable Object's store under the Python of a Worker: what crosses into JavaScript and comes back is the same."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.build.cloudflare.tools import node_for_wrangler
from tests.pyodide.node import ROOT, run_in_pyodide

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
STORAGE = ROOT / "tests" / "cloudflare" / "worker_in_node" / "storage.mjs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def report() -> Any:
    return await run_in_pyodide("store_program.py", STORAGE.as_uri(), node=node_for_wrangler())


async def test_a_prompt_is_kept_from_its_admission_to_its_end(report: Any) -> None:
    assert report["conversation"] == {
        "created": [True, True, False],
        "refused": "session_conflict",
        "outcome": ["completed", True, None, 1_900_000_000_005, None],
        "session": [True, 1, {"n": None}],
        "journal": [["answer", '{"a":[1,2.5,null]}'], ["settled", "{}"]],
        "steps": [True],
        "events": [41, [40, 41]],
    }


async def test_the_alarm_is_set_and_large_integers_are_kept(report: Any) -> None:
    assert report["due"] == [True, 1_900_000_001_000]
    assert report["alarm"] == 1_900_000_001_000
    assert report["taken over"] == 0


async def test_failures_have_their_codes_and_write_nothing(report: Any) -> None:
    assert report["failures"] == {
        "surrogate": "store_invalid_text",
        "too long": "store_too_big",
        "no such table": "store_error",
        "nothing of it": True,
    }
