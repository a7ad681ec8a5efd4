from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

USER_TESTS = '''
import asyncio
import pytest
from flue import create_agent, tool
from flue.errors import ProviderError
from flue.testing import MemoryStore, StoreContract, call

pytestmark = pytest.mark.asyncio

@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number

async def test_an_agent_answers_through_its_tools(flue_context, scripted_model):
    scripted_model.add(call("double", {"number": 21}), "It is 42.")
    harness = await flue_context.init(create_agent(model="anthropic/claude-sonnet-4-6", tools=[double]))
    session = await harness.session()
    assert (await session.prompt("What is twice 21?")).text == "It is 42."
    assert scripted_model.requests[1].messages[-1].content[0].text == "42"
    assert flue_context.id == "test"

async def test_a_transient_failure_is_retried_without_waiting(flue_context, scripted_model, virtual_clock):
    scripted_model.add(ProviderError("busy", status=529, retryable=True), "Hello.")
    session = await (await flue_context.init(create_agent(model="openai/gpt-5"))).session()
    assert (await session.prompt("Hi.")).text == "Hello."
    assert virtual_clock.monotonic() == 0

async def test_the_server_is_there(provider_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(provider_server.url.rpartition(":")[2]))
    writer.close()
    await writer.wait_closed()

class TestMine(StoreContract):
    @pytest.fixture(autouse=True)
    def one(self):
        self.store = MemoryStore()
    def make_store(self, directory):
        return self.store

class TestBroken(StoreContract):
    def make_store(self, directory):
        class Forgetful(MemoryStore):
            async def load_session(self, key):
                return None
        return Forgetful()
'''

SETTINGS = """
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest prints for a user's tests, in the mode of pytest-asyncio that does least by itself."""
    folder = tmp_path_factory.mktemp("user")
    folder.joinpath("test_mine.py").write_text(USER_TESTS)
    folder.joinpath("pytest.ini").write_text(SETTINGS)
    # Named here, so that the test does not depend on whether the checkout is installed.
    plugins = ["-p", "asyncio", "-p", "flue.testing.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", *plugins],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("test", re.findall(r"^async def (test_\w+)", USER_TESTS, re.MULTILINE))
def test_users_get_the_fixtures(output: str, test: str) -> None:
    assert f"::{test} PASSED" in output


def test_a_store_that_keeps_the_contract_passes_it(output: str) -> None:
    outcomes = re.findall(r"::TestMine::\S.* (PASSED|FAILED|ERROR|SKIPPED)", output)
    assert len(outcomes) > 30
    assert set(outcomes) == {"PASSED"}


def test_a_store_that_breaks_the_contract_fails_it_with_an_explanation(output: str) -> None:
    assert re.search(r"::TestBroken::test_appends_add_at_the_end_and_replace_the_head\b.* FAILED", output)
    assert "AssertionError: the session is missing" in output
    assert "assert None == StoredSession(" in output


def test_loading_the_plugin_imports_nothing_else_of_the_package() -> None:
    program = "import sys, flue.testing.plugin; print(sorted(name for name in sys.modules if name.startswith('flue')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['flue', 'flue.testing', 'flue.testing.plugin']\n"
