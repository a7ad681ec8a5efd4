from __future__ import annotations

import asyncio
import itertools
import json

import pytest

import flue
from flue.engine.dispatching import dispatch
from flue.stores import MemoryStore
from flue.testing import RecordedRequest, ScriptedModel, call
from tests.engine.scenes import catalog, conversation, serving, texts


async def test_dispatched_input_is_worked_on_after_what_was_sent_before() -> None:
    agent = flue.create_agent(model=ScriptedModel(itertools.repeat("Seen.")))
    store = MemoryStore()
    async with serving(catalog({"mail": agent}), store) as service:
        first = await service.prompt("mail", "ann", "Hello.")
        receipt = await dispatch(agent, id="ann", input={"b": [1], "a": "é"}, dispatch_id="d-1")
        again = await dispatch("mail", id="ann", input={"a": "é", "b": [1]}, dispatch_id="d-1")
        assert (again.dispatch_id, again.accepted_at) == ("d-1", receipt.accepted_at)
        last = await service.prompt("mail", "ann", "Bye.")
        await asyncio.gather(first.outcome(), last.outcome())
        with pytest.raises(flue.DurabilityError) as refused:
            await dispatch("mail", id="ann", input="something else", dispatch_id="d-1")
    assert refused.value.code == "idempotency_conflict"
    said = [text for text in texts(await conversation(store, "mail", "ann")) if text.startswith("user")]
    assert len(said) == 3
    body = said[1].removeprefix("user: ").splitlines()
    assert body[0] == "[Dispatch Input]"
    assert body[1:6] == ["agent: mail", "id: ann", "session: default", "targetAgent: mail", "dispatchId: d-1"]
    assert body[6] == f"acceptedAt: {receipt.accepted_at}"
    assert json.loads("\n".join(body[9:])) == {"a": "é", "b": [1]}


async def test_a_tool_dispatches_to_an_agent_of_its_project() -> None:
    arrived = asyncio.Event()

    def receive(request: RecordedRequest) -> str:
        arrived.set()
        return "Seen."

    mail = flue.create_agent(model=ScriptedModel([receive]))

    @flue.tool
    async def send(text: str) -> str:
        """Send."""
        return (await dispatch(mail, id="ann", input=text)).dispatch_id

    chat = flue.create_agent(model=ScriptedModel([call("send", {"text": "Hi."}), "Sent."]), tools=[send])
    async with serving(catalog({"mail": mail, "chat": chat}), MemoryStore()) as service:
        outcome = await (await service.prompt("chat", "bob", "Send it.")).outcome()
        assert outcome.kind == "completed"
        await arrived.wait()


async def test_without_a_service_there_is_nobody_to_dispatch_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flue.engine.dispatching._sources", [])  # applications of other tests' modules
    with pytest.raises(flue.UsageError) as refused:
        await dispatch("mail", id="ann", input=None)
    assert refused.value.code == "needs_server"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"id": ""}, "invalid_id"),
        ({"input": object()}, "invalid_input"),
        ({"input": float("nan")}, "invalid_input"),
        ({"dispatch_id": " "}, "invalid_id"),
        ({"agent": "nobody"}, "agent_not_found"),
        ({"agent": flue.create_agent(model=ScriptedModel())}, "agent_not_found"),
    ],
)
async def test_what_cannot_be_dispatched_is_refused(given: dict[str, object], code: str) -> None:
    agent = flue.create_agent(model=ScriptedModel())
    asked: dict[str, object] = {"agent": agent, "id": "ann", "input": None} | given
    async with serving(catalog({"mail": agent}), MemoryStore()):
        with pytest.raises(flue.FlueError) as refused:
            await dispatch(asked.pop("agent"), **asked)  # type: ignore[arg-type]
    assert refused.value.code == code
