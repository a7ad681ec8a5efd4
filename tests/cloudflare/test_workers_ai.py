"""Models of Workers AI: both wires that its binding streams, its gateway, its errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flue.cloudflare.bundle import Bundle
from flue.cloudflare.platform.workers_ai import register_workers_ai, workers_ai
from flue.errors import ModelSetupError, ProviderError
from flue.messages import Json, TextContent, ThinkingContent, UserMessage
from flue.models import Models
from flue.models.wire import WireModel
from flue.ports import HttpTransport
from flue.registrations import Registrations, using_registrations
from flue.testing.provider_server import ProviderServer, call, reply
from tests.cloudflare.fake_fetch import FakeExchange, fake_fetch
from tests.cloudflare.site import Site
from tests.models.over_http import LOOK, Conversation, transport_of

LLAMA = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
GPT_OSS = "@cf/openai/gpt-oss-120b"
ENV = {"AI": object()}


def made(run: Any, model: str = LLAMA, **options: Any) -> WireModel:
    """Return a model; `run` plays the binding."""
    found = workers_ai(run=run, **options)(model, ENV)
    assert isinstance(found, WireModel)
    return found


class Binding:
    """The binding, with one answer: a stream of events as given, or another body."""

    def __init__(
        self, *events: Json | str, done: bool = True, status: int = 200, kind: str = "text/event-stream"
    ) -> None:
        lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events]
        self.body = "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()
        if kind != "text/event-stream":
            self.body = "".join(event if isinstance(event, str) else json.dumps(event) for event in events).encode()
        self.status = status
        self.kind = kind
        self.size = 1 << 20
        self.breaks: OSError | None = None
        self.asked: list[dict[str, Any]] = []
        self.aborted = 0
        self._left: list[bytes] = []

    def __call__(self, binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> Binding:
        self.asked.append({"binding": binding, "model": model, "inputs": json.loads(inputs), "options": dict(options)})
        self._left = [self.body[start : start + self.size] for start in range(0, len(self.body), self.size)]
        return self

    async def answer(self) -> tuple[int, Iterable[tuple[str, str]]]:
        if self.breaks is not None and not self.body:
            raise self.breaks
        return self.status, [("Content-Type", self.kind)]

    async def read(self) -> bytes | None:
        if not self._left and self.breaks is not None:
            raise self.breaks
        return self._left.pop(0) if self._left else None

    def abort(self) -> None:
        self.aborted += 1


USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


async def failure(binding: Binding, text: str = "hello") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await Conversation(made(binding)).say(text)
    return caught.value


# ----------------------------------------------------------------------------------------- Workers AI's own wire


async def test_text_streams_with_its_usage_and_ends_at_the_mark() -> None:
    """Its own chunks give no reason for the end."""
    binding = Binding({"response": "Hel", "p": "abc"}, {"response": "lo"}, {"response": "", "usage": USAGE})
    conversation = Conversation(made(binding))
    answer = await conversation.say("hello")
    assert (answer.text, answer.stop_reason) == ("Hello", "stop")
    assert (answer.provider, answer.model, answer.api) == ("cloudflare", LLAMA, "cloudflare-ai-binding")
    assert (answer.usage.input, answer.usage.output) == (12, 5)
    assert [delta.delta for delta in conversation.deltas if delta.type == "text_delta"] == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("pieces", "text"), [((4, 2), "42"), ((1.5,), "1.5"), ((True,), "true"), (({"a": [1]},), '{"a":[1]}'), ((0,), "0")]
)
async def test_tokens_that_are_no_text_become_what_they_say(pieces: tuple[Any, ...], text: str) -> None:
    """A token such as 42 comes as a number."""
    assert (await Conversation(made(Binding(*({"response": piece} for piece in pieces)))).say("x")).text == text


async def test_whole_tool_calls_are_taken_in_order_with_ids_of_their_own() -> None:
    """Older models give all calls at once, as objects and without ids."""
    calls = [{"name": "look", "arguments": {"at": "a"}}, {"name": "look", "arguments": {"at": "b"}}]
    binding = Binding({"response": None, "tool_calls": calls}, {"response": "", "usage": USAGE})
    answer = await Conversation(made(binding), tools=[LOOK]).say("Look.")
    assert answer.stop_reason == "toolUse"
    assert [(made.name, made.arguments) for made in answer.tool_calls] == [("look", {"at": "a"}), ("look", {"at": "b"})]
    assert len({made.id for made in answer.tool_calls}) == 2


async def test_tool_calls_in_pieces_are_put_together_and_the_empty_one_is_skipped() -> None:
    """Newer models stream them; a call without anything in it comes last."""
    pieces: list[Json] = [
        {"id": "c1", "type": "function", "index": 0, "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"at": '}},
        {"index": 0, "function": {"arguments": '"here"}'}},
        {"id": "c2", "type": "function", "index": 1, "function": {"name": "look", "arguments": "{}"}},
        {"id": None, "type": None, "index": 2, "function": {"name": None, "arguments": ""}},
    ]
    binding = Binding(*({"tool_calls": [piece]} for piece in pieces), {"response": "", "finish_reason": "tool_calls"})
    answer = await Conversation(made(binding), tools=[LOOK]).say("Look.")
    assert [(made.id, made.arguments) for made in answer.tool_calls] == [("c1", {"at": "here"}), ("c2", {})]
    assert answer.stop_reason == "toolUse"


async def test_two_thousand_identical_chunks_are_all_kept_however_they_are_cut() -> None:
    """Repetition is legal."""
    binding = Binding(*[{"response": "ha"}] * 2000)
    binding.size = 7
    assert (await Conversation(made(binding)).say("x")).text == "ha" * 2000


async def test_a_clean_end_without_the_mark_is_no_success() -> None:
    """It may have been cut anywhere."""
    error = await failure(Binding({"response": "Half of"}, done=False))
    assert error.retryable
    assert error.code == "provider_stream"


@pytest.mark.parametrize("event", [{"error": "Out of memory: internal error"}, {"error": {"message": "internal"}}])
async def test_an_error_inside_the_stream_is_raised(event: Json) -> None:
    """With what had come before."""
    error = await failure(Binding({"response": "Half"}, event))
    assert "internal" in error.message
    assert error.retryable


@pytest.mark.parametrize(
    "event", ["nonsense", "[1]", '{"response": "x", "tool_calls": 5}', '{"tool_calls": [{"id": 1}]}']
)
async def test_what_cannot_be_read_is_a_retryable_error(event: str) -> None:
    """And not a traceback."""
    assert (await failure(Binding(event))).retryable


async def test_a_binding_that_breaks_is_a_retryable_error_that_names_it() -> None:
    """Before the head, and in the middle."""
    binding = Binding({"response": "Half"}, done=False)
    binding.breaks = OSError("Error: Network connection lost.")
    error = await failure(binding)
    assert (error.status, error.retryable, error.code) == (None, True, "provider_unreachable")
    binding.body = b""
    error = await failure(binding)
    assert (error.status, error.retryable) == (None, True)
    assert error.message == "https://workers-binding.ai cannot be reached: Error: Network connection lost."


# --------------------------------------------------------------------------------------------- errors, by status


@pytest.mark.parametrize(
    ("status", "body", "words", "retryable"),
    [
        (429, {"internalCode": 3040, "name": "AiError", "message": "3040: No more data centers"}, "data centers", True),
        (429, {"errors": [{"code": 3040, "message": "Capacity temporarily exceeded"}]}, "Capacity", True),
        (429, {"errors": [{"code": 3036, "message": "You have used up your daily free allocation"}]}, "used up", False),
        (400, {"errors": [{"code": 5007, "message": "No such model @cf/x or task"}]}, "No such model", False),
        (403, {"errors": [{"code": 5016, "message": "Not agreed to the terms"}]}, "terms", False),
        (408, {"errors": [{"code": 3007, "message": "Request timeout"}]}, "timeout", True),
        (500, "upstream connect error", "upstream connect error", True),
    ],
)
async def test_a_refusal_keeps_its_words_and_says_whether_to_ask_again(
    status: int, body: Any, words: str, retryable: bool
) -> None:
    """In either of the two forms that they have."""
    error = await failure(Binding(body, status=status, kind="application/json"))
    assert (error.status, error.retryable) == (status, retryable)
    assert words in error.message
    assert "API key" not in error.hint


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "workers-ai/models"), (404, "workers-ai/models"), (403, "dashboard"), (500, "")]
)
async def test_a_refusal_says_where_to_look(status: int, hint: str) -> None:
    """There is no key and no address to check."""
    error = await failure(Binding({"errors": [{"message": "the model"}]}, status=status, kind="application/json"))
    assert hint in error.hint
    assert bool(hint) is bool(error.hint)


@pytest.mark.parametrize(
    "words",
    [
        "5021: The estimated number of input and output tokens (9) exceeded this model context window limit (8)",
        "Requested token count exceeds the model's maximum context length of 256000 tokens",
    ],
)
async def test_an_overflow_is_recognised(words: str) -> None:
    """So that the conversation is compacted."""
    error = await failure(Binding({"errors": [{"code": 5021, "message": words}]}, status=413, kind="application/json"))
    assert (error.overflow, error.retryable, error.code) == (True, False, "context_overflow")


async def test_an_answer_that_does_not_stream_is_an_error() -> None:
    """Some models cannot."""
    error = await failure(Binding({"response": "Hello"}, kind="application/json"))
    assert "instead of a stream" in error.message
    assert "not stream" in error.hint


# -------------------------------------------------------------------------------------------- what is asked


async def test_the_model_stands_beside_the_inputs_and_the_gateway_is_the_default_one() -> None:
    """Inputs have only what Workers AI knows."""
    binding = Binding({"response": "ok"})
    conversation = Conversation(made(binding), tools=[LOOK], affinity="session-1")
    await conversation.say("hello")
    (asked,) = binding.asked
    assert (asked["binding"], asked["model"]) == ("AI", LLAMA)
    assert asked["options"] == {"gateway": {"id": "default"}, "extraHeaders": {"x-session-affinity": "session-1"}}
    assert sorted(asked["inputs"]) == ["max_tokens", "messages", "stream", "tools"]
    assert asked["inputs"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert asked["inputs"]["tools"] == [{"type": "function", "function": LOOK.to_json()}]


async def test_an_answer_that_only_calls_tools_goes_back_with_an_empty_text() -> None:
    """Workers AI refuses null."""
    binding = Binding({"tool_calls": [{"name": "look", "arguments": {}}]})
    conversation = Conversation(made(binding), tools=[LOOK])
    await conversation.say("Look.")
    binding.body = b'data: {"response":"Seen."}\n\ndata: [DONE]\n\n'
    assert (await conversation.answer_calls("a shelf")).text == "Seen."
    _, _, assistant, result = binding.asked[1]["inputs"]["messages"]
    assert assistant["content"] == ""
    assert (result["role"], result["tool_call_id"]) == ("tool", assistant["tool_calls"][0]["id"])


@pytest.mark.parametrize(
    ("model", "options", "tokens"),
    [
        (LLAMA, {}, 2048),
        (GPT_OSS, {}, 16_384),
        ("@cf/moonshotai/kimi-k2.5", {}, 16_384),  # 256,000 by the catalogue: its whole context
        (LLAMA, {"max_tokens": 100}, 100),
        (GPT_OSS, {"max_tokens": 100_000}, 16_384),
    ],
)
async def test_the_length_of_an_answer_is_always_given(model: str, options: Any, tokens: int) -> None:
    """Workers AI's own default is 256, and a large number counts against the context."""
    binding = Binding({"response": "ok"})
    await Conversation(made(binding, model), **options).say("hello")
    assert binding.asked[0]["inputs"]["max_tokens"] == tokens


@pytest.mark.parametrize(
    ("gateway", "sent"),
    [
        (False, None),
        ({}, {"id": "default"}),
        ({"id": "mine", "skip_cache": True, "cache_ttl": 60}, {"id": "mine", "skipCache": True, "cacheTtl": 60}),
        (
            {
                "cacheKey": "k",
                "metadata": {"user": "ann"},
                "collectLog": False,
                "event_id": "e",
                "request_timeout_ms": 9,
            },
            {
                "id": "default",
                "cacheKey": "k",
                "metadata": {"user": "ann"},
                "collectLog": False,
                "eventId": "e",
                "requestTimeoutMs": 9,
            },
        ),
    ],
)
async def test_gateway_options_are_passed_on_under_their_own_names(gateway: Any, sent: Any) -> None:
    """In either spelling; False asks Workers AI without a gateway."""
    binding = Binding({"response": "ok"})
    await Conversation(made(binding, gateway=gateway)).say("hello")
    assert binding.asked[0]["options"] == ({} if sent is None else {"gateway": sent})


@pytest.mark.parametrize("gateway", [{"cache": 1}, {"cacheTtl": "60"}, {"skip_cache": 1}, {"request_timeout_ms": True}])
def test_gateway_options_that_are_not_right_are_named(gateway: Any) -> None:
    """Where they are written."""
    with pytest.raises(ModelSetupError, match=next(iter(gateway))) as caught:
        workers_ai(gateway=gateway)
    assert caught.value.code == "invalid_provider"


async def test_closing_the_stream_drops_the_question() -> None:
    """A model that goes on for nobody costs money."""
    binding = Binding(*[{"response": "x"}] * 10)
    binding.size = 20
    conversation = Conversation(made(binding))
    conversation.transcript.append(UserMessage((TextContent("x"),)))
    stream = conversation.stream()
    await anext(stream)
    await stream.aclose()
    assert binding.aborted >= 1


# -------------------------------------------------------------------------------- the wire of Chat Completions


@asynccontextmanager
async def by_binding(server: ProviderServer, model: str = GPT_OSS) -> AsyncIterator[Conversation]:
    """Have a conversation with a model whose binding asks a provider server, over HTTP."""
    async with fake_fetch() as fetch:

        def run(binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> FakeExchange:
            body = {"model": model, "stream_options": {"include_usage": True}, **json.loads(inputs)}
            url = f"{server.base_url('openai-completions')}/chat/completions"
            headers = {"authorization": "Bearer x", "content-type": "application/json"}
            return fetch(url, method="POST", headers=headers, body=json.dumps(body).encode())

        yield Conversation(made(run, model), tools=[LOOK])


async def test_models_that_speak_chat_completions_think_call_tools_and_answer() -> None:
    """Most newer ones do."""
    script: list[Any] = [
        reply("Hm.", thinking="Two and two.", calls=[call("look", {"at": "a"}), call("look", {})]),
        "Four.",
    ]
    async with ProviderServer(script) as server, by_binding(server) as conversation:
        answer = await conversation.say("2+2?")
        final = await conversation.answer_calls("seen")
    thought = answer.content[0]
    assert isinstance(thought, ThinkingContent)
    assert thought.thinking == "Two and two."
    assert [made.arguments for made in answer.tool_calls] == [{"at": "a"}, {}]
    assert (final.text, final.stop_reason) == ("Four.", "stop")
    assert final.usage.output > 0
    assert final.usage.cost.total > 0  # the catalogue's prices


@pytest.mark.parametrize(
    ("what", "status"),
    [("[[error 529]]", 529), ("[[cut]]", None), ("[[drop]]", None), ("[[truncate]]", 200), ("[[html]]", 200)],
)
async def test_their_failures_are_those_of_every_provider(what: str, status: int | None) -> None:
    """And the conversation goes on after them."""
    async with ProviderServer() as server, by_binding(server) as conversation:
        with pytest.raises(ProviderError) as caught:
            await conversation.say(f"[[times 1 {what.strip('[]')}]] still here")
        assert (caught.value.status, caught.value.retryable) == (status, True)
        assert (await conversation.ask()).text == "still here"


# ------------------------------------------------------------------------------------------------- the provider


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    async with transport_of() as transport:
        yield transport


def test_without_the_binding_the_error_says_what_to_write(transport: HttpTransport) -> None:
    """The first thing that everybody forgets."""
    with using_registrations(Registrations()):
        register_workers_ai(binding="MODELS")
        with pytest.raises(ModelSetupError) as caught:
            Models(transport).resolve(f"cloudflare/{LLAMA}", {"AI": object()})
    assert caught.value.code == "missing_binding"
    assert '"ai": {"binding": "MODELS"}' in caught.value.hint


def test_elsewhere_the_error_names_the_way_over_http(transport: HttpTransport) -> None:
    """Nobody has registered it on a server."""
    with using_registrations(Registrations()), pytest.raises(ModelSetupError) as caught:
        Models(transport).resolve(f"cloudflare/{LLAMA}", {})
    assert f"'cloudflare-workers-ai/{LLAMA}'" in caught.value.hint


def test_a_model_is_made_once_and_knows_what_the_catalogue_or_the_registration_says(transport: HttpTransport) -> None:
    """Encoded history hangs on the object."""
    with using_registrations(Registrations()):
        register_workers_ai("ai", models={"@cf/new": {"contextWindow": 1000, "cost": {"input": 2}}})
        models = Models(transport)
        known, again = (models.resolve(f"ai/{GPT_OSS}", ENV) for _ in range(2))
        new = models.resolve("ai/@cf/new", ENV)
    assert known is again
    assert (known.info.provider, known.info.context_window, known.info.price_input) == ("ai", 128_000, 0.35)
    assert (new.info.context_window, new.info.price_input, new.info.max_tokens) == (1000, 2.0, 0)


@pytest.mark.parametrize("own", [False, True])
async def test_a_project_on_cloudflare_has_the_provider_unless_it_has_one_of_that_name(
    own: bool, cloud: Site, tmp_path: Path, transport: HttpTransport
) -> None:
    """What a user writes wins."""
    from flue.cloudflare.isolate import Isolate, Platform

    mine = 'from flue import register_provider\nregister_provider("cloudflare", api="openai-completions", base_url="https://x")'
    agent = "from flue import create_agent\nagent = create_agent(model='demo/librarian')\n"
    bundle = Bundle({".flue/agents/chat.py": f"{agent}{mine if own else ''}".encode()}, project=f"own-{own}")
    isolate = Isolate(bundle, Platform(store=unused, models=unused, folder=tmp_path))
    with using_registrations(isolate.project.registrations):
        model = Models(transport).resolve(f"cloudflare/{LLAMA}", ENV)
    assert model.info.api == ("openai-completions" if own else "cloudflare-ai-binding")


def unused(*_: Any) -> Any:
    raise AssertionError
