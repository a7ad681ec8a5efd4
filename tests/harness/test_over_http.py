"""The turn loop over real HTTP, in every protocol: what goes wrong at a provider never harms the conversation.

The fake provider refuses, as real ones do, a conversation with a tool call that has no result, so every answer that
follows a failure also shows that the history is sound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from flue import AbortError, OperationError, Session, create_agent, open_context, tool
from flue.events import Event
from flue.harness.retry import Retry
from flue.messages import AssistantMessage, Message
from flue.ports import HttpTransport
from flue.testing import SequentialIds
from flue.testing.provider_server import APIS, ProviderServer
from tests.harness.scene import assert_sound, until
from tests.models.over_http import ImpatientTransport, model_at, transport_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_api = pytest.mark.parametrize("api", APIS)

# What passes when the request is made again, as directives of the fake provider.
PASSING = (
    "error 429 retry-after=0 slow down",
    "error 500",
    "error 529 overloaded",
    "drop",
    "cut",
    "truncate",
    "error-event overloaded_error",
    "html",
)
# What does not, and the code of the error.
LASTING = (
    ("error 400 no", "provider_error"),
    ("error 401 who are you", "provider_error"),
    ("error 429 retry-after=3600 tomorrow", "provider_error"),
    ("overflow", "context_overflow"),
)


class QuickTransport(ImpatientTransport):
    """Waits a moment for each read, so that a provider that falls silent costs a test little."""

    patience = 0.15


@dataclass
class Talk:
    """A session with a model at the fake provider; `noted` is what its tool was called with."""

    session: Session
    server: ProviderServer
    noted: list[str]
    events: list[Event]

    @property
    def messages(self) -> list[Message]:
        return list(self.session.history.transcript)

    @property
    def answers(self) -> list[tuple[str, str]]:
        return [(m.stop_reason, m.text) for m in self.messages if isinstance(m, AssistantMessage)]

    async def goes_on(self) -> None:
        """Check that the conversation can be continued."""
        assert (await self.session.prompt("[[say Still here.]] And now?")).text == "Still here."
        assert_sound(self.messages)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transport() -> AsyncIterator[HttpTransport]:
    async with transport_of(ImpatientTransport) as transport:
        yield transport


@asynccontextmanager
async def talk(api: str, transport: HttpTransport) -> AsyncIterator[Talk]:
    noted: list[str] = []

    @tool
    async def note(text: str) -> str:
        """Note something."""
        await asyncio.sleep(0)
        noted.append(text)
        return f"noted {text}"

    events: list[Event] = []
    at_once = Retry(first_delay=0)
    async with (
        ProviderServer() as server,
        open_context(env={}, ids=SequentialIds(), retry=at_once, on_event=events.append) as ctx,
    ):
        harness = await ctx.init(create_agent(model=model_at(server, api, transport), tools=[note]))
        yield Talk(await harness.session(), server, noted, events)


@each_api
@pytest.mark.parametrize("failure", PASSING)
async def test_a_passing_failure_is_not_noticed(api: str, failure: str, transport: HttpTransport) -> None:
    async with talk(api, transport) as t:
        assert (await t.session.prompt(f"[[times 1 {failure}]] hello")).text == "hello"
        assert t.answers == [("stop", "hello")]
        assert len(t.server.requests) == 2
        await t.goes_on()


@each_api
@pytest.mark.parametrize("failure", ["hang", "silence"])
async def test_a_provider_that_falls_silent_is_asked_again(api: str, failure: str) -> None:
    async with transport_of(QuickTransport) as quick, talk(api, quick) as t:
        assert (await t.session.prompt(f"[[times 1 {failure}]] hello")).text == "hello"
        assert t.answers == [("stop", "hello")]
        await t.goes_on()


@each_api
@pytest.mark.parametrize("failure", ["error 503", "cut", "truncate", "error-event overloaded_error", "html"])
async def test_a_failure_that_does_not_pass_ends_the_call_after_three_attempts(
    api: str, failure: str, transport: HttpTransport
) -> None:
    async with talk(api, transport) as t:
        with pytest.raises(OperationError, match="prompt failed: "):
            await t.session.prompt(f"[[{failure}]] hello")
        assert [reason for reason, _ in t.answers] == ["error"]
        assert len(t.server.requests) == 3
        await t.goes_on()


@each_api
@pytest.mark.parametrize(("failure", "code"), LASTING)
async def test_a_lasting_failure_ends_the_call_at_once(
    api: str, failure: str, code: str, transport: HttpTransport
) -> None:
    async with talk(api, transport) as t:
        with pytest.raises(OperationError) as caught:
            await t.session.prompt(f"[[{failure}]] hello")
        assert caught.value.code == code
        assert len(t.server.requests) == 1
        assert [reason for reason, _ in t.answers] == ["error"]
        await t.goes_on()


@each_api
@pytest.mark.parametrize("failure", ["error 529", "cut", "truncate", "error-event overloaded_error"])
async def test_a_failure_after_tool_calls_does_not_run_them_again(
    api: str, failure: str, transport: HttpTransport
) -> None:
    calls = '[[call note {"text": "a"}]][[call note {"text": "b"}]]'
    async with talk(api, transport) as t:
        reply = await t.session.prompt(f"{calls}[[then]][[times 1 {failure}]][[say Done.]]")
        assert reply.text == "Done."
        assert t.noted == ["a", "b"]
        assert [reason for reason, _ in t.answers] == ["toolUse", "stop"]
        await t.goes_on()


@each_api
@pytest.mark.parametrize("failure", ["cut", "truncate"])
async def test_a_tool_call_that_breaks_off_is_never_run(api: str, failure: str, transport: HttpTransport) -> None:
    long = "x" * 200
    async with talk(api, transport) as t:
        with pytest.raises(OperationError):
            await t.session.prompt(f'[[delta-size 4]][[call note {{"text": "{long}"}}]][[{failure}]]')
        assert t.noted == []
        await t.goes_on()


@each_api
async def test_an_answer_at_its_length_limit_runs_no_tool_and_the_model_is_told(
    api: str, transport: HttpTransport
) -> None:
    async with talk(api, transport) as t:
        await t.session.prompt('[[call note {"text": "a"}]][[stop length]][[then]][[say I see.]]')
        assert t.noted == []
        assert t.answers[-1] == ("stop", "I see.")
        await t.goes_on()


@each_api
async def test_a_long_tool_loop_keeps_every_call_with_its_result(api: str, transport: HttpTransport) -> None:
    async with talk(api, transport) as t:
        reply = await t.session.prompt('[[call note {"text": "a"}]][[repeat 6]][[then]][[say Done.]]')
        assert (reply.text, len(t.noted)) == ("Done.", 6)
        assert reply.usage.total_tokens > 0
        await t.goes_on()


@each_api
@pytest.mark.parametrize("where", ["while it answers", "while a tool call streams", "before it answers"])
async def test_an_abort_leaves_a_conversation_that_goes_on(api: str, where: str, transport: HttpTransport) -> None:
    text, sign = {
        "while it answers": ("[[hang]]", "text_delta"),
        "while a tool call streams": (
            f'[[delta-size 4]][[call note {{"text": "{"x" * 99}"}}]][[hang]]',
            "message_update",
        ),
        "before it answers": ("[[silence]]", "turn_request"),
    }[where]
    async with talk(api, transport) as t:
        handle = t.session.prompt(text)
        await until(lambda: t.server.requests and any(event.type == sign for event in t.events))
        handle.abort("enough")
        with pytest.raises(AbortError, match="enough"):
            await handle
        assert [reason for reason, _ in t.answers] == ["aborted"]
        assert t.noted == []
        await t.goes_on()
