"""What the dev page asks its server, over the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from flue import FlueContext, create_agent, tool
from flue.sandboxes import virtual
from flue.server.app import asgi
from flue.server.page.app import POLICY, page
from flue.stores import MemoryStore, SqliteStore
from flue.testing import ScriptedModel, call, hang, thinking
from tests.server.asgi_client import Answer, Client, frames

HERE = {"host": "localhost:3583", "origin": "http://localhost:3583"}
ANN = "/_flue/api/agents/chat/ann/sessions/default"


class Payload(BaseModel):
    text: str
    copies: int = 1


@tool(approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} is refunded"


@tool
def look_up(order: str) -> str:
    """Look an order up."""
    return f"{order} is on its way"


async def echo(ctx: FlueContext) -> Any:
    """Say it again."""
    return ctx.payload


async def payment(ctx: FlueContext) -> Any:
    return await ctx.wait_for_event("paid")


def module(name: str, doc: str | None = None, **names: Any) -> ModuleType:
    made = ModuleType(name, doc)
    vars(made).update(names)
    return made


class Shop:
    """One of everything, and the page of it."""

    def __init__(self, store: Any) -> None:
        self.model = ScriptedModel()
        files = virtual({"notes.md": "Remember.", "photo.bin": b"\xff\xfe\x00"})
        self.app = asgi(
            agents={
                "chat": create_agent(model=self.model, tools=[look_up, refund], sandbox=files),
                "thrifty": create_agent(model=self.model, tools=[look_up], budget={"turns": 1}),
                "hidden": module("hidden", "Nobody knows it.", agent=create_agent(model=self.model)),
                "reporter": module("reporter", run=echo, Payload=Payload),
            },
            workflows={
                "echo": module("echo", run=echo, Payload=Payload, route=True),
                "payment": payment,
                "odd": module("odd", run=echo, Payload=list[int]),
            },
            store=store,
        )
        self.problem: str | None = None
        self.client = Client(page(self.app.application, lambda: self.problem))

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.client.get(path, **{**HERE, **headers})

    async def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return await self.client.post(path, {} if body is None else body, **{**HERE, **headers})

    async def say(self, message: str, session: str = ANN) -> str:
        answer = await self.post(f"{session}/prompts", {"message": message})
        assert answer.status == 202, answer.body
        id: str = answer.json["submissionId"]
        return id

    async def events(self, id: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
        async with self.client.stream(
            "GET", f"/_flue/api/submissions/{id}/stream{query}", headers={**HERE, **headers}
        ) as stream:
            return frames(await stream.end())

    async def until(self, path: str, holds: Any) -> Any:
        """Ask until an answer has what is looked for."""
        async with asyncio.timeout(10):
            while True:
                found = (await self.get(path)).json
                if holds(found):
                    return found
                await asyncio.sleep(0.005)

    async def waiting(self, session: str = ANN) -> Any:
        found = await self.until(f"{session}/work", lambda found: found["work"] and "waitingFor" in found["work"][0])
        return found["work"][0]["waitingFor"]


@pytest.fixture
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    store: Any = SqliteStore(tmp_path / "flue.db") if getattr(request, "param", "") == "sqlite" else MemoryStore()
    shop = Shop(store)
    yield shop
    await shop.app.application.drain()
    await store.aclose()


def texts(session: Any) -> list[str]:
    return [f"{e['message']['role']}: {e['message']['content'][0].get('text', '')}" for e in session["entries"]]


# --------------------------------------------------------------------------------------------------- the project


async def test_all_agents_and_workflows_are_listed_also_those_without_a_route(shop: Shop) -> None:
    project = (await shop.get("/_flue/api/project")).json
    agents = {agent["name"]: agent for agent in project["agents"]}
    assert list(agents) == ["chat", "hidden", "reporter", "thrifty"]
    assert (agents["chat"]["tools"], agents["chat"]["model"]) == (["look_up", "refund"], "scripted/model")
    assert (agents["chat"]["http"], agents["chat"]["websocket"]) == (True, True)
    assert (agents["hidden"]["http"], agents["hidden"]["description"]) == (False, "Nobody knows it.")
    assert agents["thrifty"]["budget"] == {"turns": 1}
    assert [agents[name]["conversational"] for name in ("chat", "reporter")] == [True, False]
    workflows = {workflow["name"]: workflow for workflow in project["workflows"]}
    assert workflows["echo"]["description"] == "Say it again."
    assert workflows["echo"]["schema"]["properties"]["text"]["type"] == "string"
    assert workflows["payment"]["schema"] is None
    assert "does not describe an object" in workflows["odd"]["schemaProblem"]


async def test_the_status_names_the_version_that_is_served_and_what_is_wrong_with_the_newest_code(shop: Shop) -> None:
    before = (await shop.get("/_flue/api/status")).json
    assert before["version"]
    assert before["problem"] is None
    shop.problem = "agents/chat.py:3: SyntaxError"
    assert (await shop.get("/_flue/api/status")).json == {**before, "problem": shop.problem}
    again = Client(page(shop.app.application, lambda: None))
    assert (await again.get("/_flue/api/status")).json == before
    other = Client(page(asgi(agents={}, workflows={}).application, lambda: None))
    assert (await other.get("/_flue/api/status")).json["version"] != before["version"]


async def test_the_page_is_there_before_the_project_can_be_loaded() -> None:
    client = Client(page(None, lambda: "flue.toml is wrong"))
    assert (await client.get("/_flue/")).status == 200
    assert (await client.get("/_flue/api/status")).json == {"version": "", "problem": "flue.toml is wrong"}
    answer = await client.get("/_flue/api/project")
    assert (answer.status, answer.error["details"]) == (503, "flue.toml is wrong")


# ------------------------------------------------------------------------------------------------- conversations


async def test_a_prompt_streams_all_but_whole_messages_and_ends_with_what_became_of_it(shop: Shop) -> None:
    shop.model.add([thinking("Hm."), "I look.", call("look_up", {"order": "a"})], "It is on its way.")
    id = await shop.say("Where is a?")
    events = await shop.events(id)
    assert events[-1]["event"] == "end"
    assert (events[-1]["data"]["status"], events[-1]["data"]["result"]["text"]) == ("completed", "It is on its way.")
    types = [event["data"]["type"] for event in events[:-1]]
    assert {"thinking_delta", "text_delta", "tool_start", "tool_call", "turn", "turn_request"} <= set(types)
    assert "message_update" not in types
    rest = await shop.events(id, "?types=tool_call", last_event_id=events[3]["id"])
    assert [event["data"]["type"] for event in rest[:-1]] == ["tool_call"]
    told = texts((await shop.get(ANN)).json)
    assert told == ["user: Where is a?", "assistant: ", "toolResult: a is on its way", "assistant: It is on its way."]


async def test_a_hidden_agent_and_any_session_can_be_talked_to(shop: Shop) -> None:
    shop.model.add("Hello.")
    session = "/_flue/api/agents/hidden/a%2Fb/sessions/on%20the%20side"
    await shop.events(await shop.say("Hi.", session))
    listed = (await shop.get("/_flue/api/agents/hidden/sessions")).json
    assert listed["listable"]
    assert [(item["instance"], item["session"], item["entries"]) for item in listed["items"]] == [
        ("a/b", "on the side", 2)
    ]
    assert (await shop.get("/_flue/api/agents/chat/sessions")).json["items"] == []


@pytest.mark.parametrize(("approved", "result"), [(True, "b is refunded"), (False, "It is too old")])
async def test_a_person_decides_on_a_tool_call(shop: Shop, *, approved: bool, result: str) -> None:
    shop.model.add([call("refund", {"order": "b"})], "Done.")
    id = await shop.say("Refund b.")
    (call_id,) = (await shop.waiting())["toolCallIds"]
    session = (await shop.get(ANN)).json
    assert [approval["toolCallId"] for approval in session["approvals"]] == [call_id]
    decision = {"approved": approved, "reason": "It is too old"}
    assert (await shop.post(f"{ANN}/approvals/{call_id}", decision)).status == 202
    assert (await shop.events(id))[-1]["data"]["status"] == "completed"
    assert result in texts((await shop.get(ANN)).json)[2]


async def test_a_prompt_that_used_up_its_budget_goes_on_with_another(shop: Shop) -> None:
    shop.model.add([call("look_up", {"order": "c"})], "Done.")
    session = "/_flue/api/agents/thrifty/ann/sessions/default"
    id = await shop.say("Look c up.", session)
    assert (await shop.waiting(session))["reason"] == "budget"
    assert (await shop.post(f"{session}/budget", {"turns": -1})).status == 400
    assert (await shop.post(f"{session}/budget", {"turns": 5})).status == 202
    assert (await shop.events(id))[-1]["data"]["status"] == "completed"


async def test_a_prompt_is_aborted_and_the_next_in_line_comes(shop: Shop) -> None:
    shop.model.add(["Thinking about it", hang()], "Yes.")
    first = await shop.say("Hm?")
    async with shop.client.stream("GET", f"/_flue/api/submissions/{first}/stream?pieces=1") as stream:
        await stream.until("Thinking abo")
    second = await shop.say("And this?")
    work = (await shop.get(f"{ANN}/work")).json["work"]
    assert [(item["submissionId"], item["input"]) for item in work] == [(first, "Hm?"), (second, "And this?")]
    assert (await shop.post(f"/_flue/api/submissions/{first}/abort")).status == 202
    assert (await shop.events(first))[-1]["data"]["status"] == "aborted"
    assert (await shop.events(second))[-1]["data"]["result"]["text"] == "Yes."


@pytest.mark.parametrize("body", [[], {}, {"message": 3}, {"message": " "}])
async def test_a_prompt_without_text_is_refused(shop: Shop, body: object) -> None:
    assert (await shop.post(f"{ANN}/prompts", body)).status == 400


async def test_long_conversations_come_a_page_at_a_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flue.server.page.conversations.PAGE", 3)
    shop.model.add("1", "2", "3")
    for text in "abc":
        await shop.events(await shop.say(text))
    newest = (await shop.get(ANN)).json
    assert (texts(newest), newest["more"]) == (["assistant: 2", "user: c", "assistant: 3"], True)
    before = (await shop.get(f"{ANN}?before={newest['entries'][0]['id']}")).json
    assert (texts(before), before["more"]) == (["user: a", "assistant: 1", "user: b"], False)
    assert (await shop.get(f"{ANN}?before=nothing")).error["type"] == "entry_not_found"


# ------------------------------------------------------------------------------------------------------ branches


@pytest.mark.parametrize("shop", ["memory", "sqlite"], indirect=True)
async def test_a_branch_goes_on_from_an_earlier_turn_and_leaves_the_conversation_as_it_is(shop: Shop) -> None:
    shop.model.add("One.", "Two.", "Another two.")
    await shop.events(await shop.say("1?"))
    await shop.events(await shop.say("2?"))
    whole = (await shop.get(ANN)).json
    answer = await shop.post(f"{ANN}/branches", {"entryId": whole["entries"][1]["id"], "session": "other"})
    assert (answer.status, answer.json) == (201, {"session": "other", "entries": 2})
    other = ANN.replace("default", "other")
    await shop.events(await shop.say("2 once more?", other))
    assert [message.content[0].text for message in shop.model.requests[-1].messages] == ["1?", "One.", "2 once more?"]  # type: ignore[union-attr]
    branched = (await shop.get(other)).json
    assert texts(branched) == ["user: 1?", "assistant: One.", "user: 2 once more?", "assistant: Another two."]
    assert branched["branchedFrom"] == {"session": "default", "entryId": whole["entries"][1]["id"]}
    assert branched["usage"]["output"] > 0
    assert (await shop.get(ANN)).json == whole


async def test_a_branch_takes_the_results_of_calls_along(shop: Shop) -> None:
    shop.model.add([call("look_up", {"order": "a"}), call("look_up", {"order": "b"})], "Both.")
    await shop.events(await shop.say("a and b?"))
    entries = (await shop.get(ANN)).json["entries"]
    answer = await shop.post(f"{ANN}/branches", {"entryId": entries[1]["id"], "session": "other"})
    assert answer.json["entries"] == 4
    other = (await shop.get(ANN.replace("default", "other"))).json
    assert other["entries"] == entries[:4]


async def test_a_branch_of_a_turn_that_waits_is_refused_and_its_approvals_stay_behind(shop: Shop) -> None:
    shop.model.add([call("refund", {"order": "b"})])
    await shop.say("Refund b.")
    await shop.waiting()
    entries = (await shop.get(ANN)).json["entries"]
    refused = await shop.post(f"{ANN}/branches", {"entryId": entries[1]["id"], "session": "other"})
    assert (refused.status, refused.error["type"]) == (409, "turn_unfinished")
    assert (await shop.post(f"{ANN}/branches", {"entryId": entries[0]["id"], "session": "other"})).status == 201
    other = (await shop.get(ANN.replace("default", "other"))).json
    assert (other["approvals"], texts(other)) == ([], ["user: Refund b."])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"entryId": "nothing", "session": "other"}, 404),
        ({"entryId": "?", "session": "default"}, 409),
        ({"entryId": "?", "session": "task:x"}, 400),
        ({"entryId": "?", "session": " "}, 400),
        ({"entryId": "?"}, 400),
        ({"entryId": None, "session": "other"}, 400),
    ],
)
async def test_a_branch_needs_an_entry_and_a_name_that_is_free(shop: Shop, body: dict[str, Any], status: int) -> None:
    shop.model.add("One.")
    await shop.events(await shop.say("1?"))
    entry = (await shop.get(ANN)).json["entries"][0]["id"]
    given = {**body, "entryId": entry} if body["entryId"] == "?" else body
    assert (await shop.post(f"{ANN}/branches", given)).status == status


async def test_a_session_of_an_agents_own_store_is_read_and_branched_there() -> None:
    class Own:
        def __init__(self) -> None:
            self.kept: dict[str, Any] = {}

        def save(self, id: str, data: Any) -> None:
            self.kept[id] = json.loads(json.dumps(data))

        def load(self, id: str) -> Any:
            return self.kept.get(id)

        def delete(self, id: str) -> None:
            self.kept.pop(id, None)

    shop, own = Shop(MemoryStore()), Own()
    shop.app = asgi(agents={"chat": create_agent(model=ScriptedModel(["One."]), persist=own)}, store=MemoryStore())
    shop.client = Client(page(shop.app.application, lambda: None))
    await shop.events(await shop.say("1?"))
    entries = (await shop.get(ANN)).json["entries"]
    assert (await shop.get("/_flue/api/agents/chat/sessions")).json == {"listable": False, "items": []}
    assert (await shop.post(f"{ANN}/branches", {"entryId": entries[1]["id"], "session": "other"})).status == 201
    assert sorted(json.loads(key.partition("session:")[2])[2] for key in own.kept) == ["default", "other"]
    await shop.app.application.drain()


# --------------------------------------------------------------------------------------------------------- files


async def test_the_files_of_a_sandbox_are_seen_while_a_prompt_waits_and_not_after(shop: Shop) -> None:
    assert (await shop.get(f"{ANN}/files")).json == {"alive": False}
    shop.model.add(
        [call("write", {"path": "made.txt", "content": "By the agent."})], [call("refund", {"order": "b"})], "D."
    )
    id = await shop.say("Write, then refund b.")
    (call_id,) = (await shop.waiting())["toolCallIds"]
    listed = (await shop.get(f"{ANN}/files")).json
    assert (listed["path"], listed["cwd"]) == ("/workspace", "/workspace")
    assert [(entry["name"], entry["kind"], entry["size"]) for entry in listed["entries"]] == [
        ("made.txt", "file", 13),
        ("notes.md", "file", 9),
        ("photo.bin", "file", 3),
    ]
    assert (await shop.get(f"{ANN}/files?path=/workspace/made.txt")).json["text"] == "By the agent."
    assert (await shop.get(f"{ANN}/files?path=photo.bin")).json["why"] == "It is not text."
    assert {"name": "workspace", "kind": "directory"}.items() <= (await shop.get(f"{ANN}/files?path=/")).json[
        "entries"
    ][-1].items()
    assert (await shop.get(f"{ANN}/files?path=nothing")).error["type"] == "file_not_found"
    assert (await shop.get(f"{ANN}/files?path=")).status == 400
    await shop.post(f"{ANN}/approvals/{call_id}", {"approved": True})
    await shop.events(id)
    assert (await shop.get(f"{ANN}/files")).json == {"alive": False}


async def test_the_files_of_a_sandbox_are_seen_while_a_prompt_runs(shop: Shop) -> None:
    shop.model.add(["I begin", hang()])
    id = await shop.say("Go.")
    await shop.until(f"{ANN}/files", lambda found: found["alive"])
    await shop.post(f"/_flue/api/submissions/{id}/abort")
    await shop.events(id)
    assert (await shop.get(f"{ANN}/files")).json == {"alive": False}


# ---------------------------------------------------------------------------------------------------------- runs


async def test_a_workflow_is_run_listed_and_opened(shop: Shop) -> None:
    id = (await shop.post("/_flue/api/workflows/echo/runs", {"text": "a"})).json["runId"]
    assert [event["data"].get("type") for event in await shop.events(id)][-2:] == ["run_end", None]
    record = (await shop.get(f"/_flue/api/runs/{id}")).json
    assert (record["status"], record["payload"], record["result"]) == ("completed", {"text": "a"}, {"text": "a"})
    assert [run["runId"] for run in (await shop.get("/_flue/api/runs?status=completed")).json["items"]] == [id]
    assert (await shop.get("/_flue/api/runs?status=active")).json["items"] == []


async def test_a_payload_is_held_against_what_the_module_says(shop: Shop) -> None:
    refused = await shop.post("/_flue/api/workflows/echo/runs", {"copies": "many"})
    assert (refused.status, refused.error["type"]) == (400, "validation_failed")
    assert [issue["path"] for issue in refused.error["meta"]["issues"]] == [["text"], ["copies"]]
    assert (await shop.get("/_flue/api/runs")).json["items"] == []
    assert (await shop.post("/_flue/api/workflows/echo/runs?unchecked=1", {"copies": "many"})).status == 202
    assert (await shop.post("/_flue/api/workflows/odd/runs", [1])).status == 202
    assert (await shop.post("/_flue/api/workflows/nothing/runs", {})).status == 404


async def test_a_function_agent_is_run_for_an_instance(shop: Shop) -> None:
    assert (await shop.post("/_flue/api/agents/reporter/ann/runs", {})).status == 400
    id = (await shop.post("/_flue/api/agents/reporter/ann/runs", {"text": "x"})).json["runId"]
    await shop.events(id)
    record = (await shop.get(f"/_flue/api/runs/{id}")).json
    assert (record["agentName"], record["instanceId"], record["payload"]) == ("reporter", "ann", {"text": "x"})


async def test_a_run_that_waits_says_for_what_and_is_sent_it(shop: Shop) -> None:
    id = (await shop.post("/_flue/api/workflows/payment/runs", {})).json["runId"]
    found = await shop.until(f"/_flue/api/runs/{id}", lambda found: "waitingFor" in found)
    assert (found["waitingFor"], found["payload"]) == ({"reason": "event", "events": ["paid"]}, {})
    assert (await shop.post(f"/_flue/api/runs/{id}/events/paid", {"euros": 3})).status == 202
    await shop.events(id)
    assert (await shop.get(f"/_flue/api/runs/{id}")).json["result"] == {"euros": 3}


@pytest.mark.parametrize(
    "path", ["runs/x", "submissions/x/stream", "agents/nothing/sessions", "agents/chat", "nothing"]
)
async def test_what_is_not_there_is_a_404(shop: Shop, path: str) -> None:
    assert (await shop.get(f"/_flue/api/{path}")).status == 404


async def test_what_is_not_there_cannot_be_aborted(shop: Shop) -> None:
    assert (await shop.post("/_flue/api/submissions/x/abort")).status == 404


# ------------------------------------------------------------------------------------------------------- safety


async def test_every_answer_forbids_what_the_page_does_not_need(shop: Shop) -> None:
    for path in ("/_flue/", "/_flue/app.js", "/_flue/api/project", "/_flue/api/nothing", "/_flue"):
        headers = (await shop.get(path)).headers
        assert headers["content-security-policy"] == POLICY, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    for word in ("unsafe", "http", "*"):
        assert word not in POLICY
    assert (await shop.get("/_flue/api/project")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:3583"},
        {"host": "localhost:3583", "origin": "null"},
        {"host": "localhost:3583", "origin": "http://evil.example"},
        {"host": "localhost:3583", "origin": "http://localhost:3000"},
        {"host": "localhost:3583", "origin": "http://localhost:3583.evil.example"},
        {"origin": "http://"},
    ],
)
async def test_only_the_page_itself_changes_anything(shop: Shop, headers: dict[str, str]) -> None:
    answer = await shop.client.post(f"{ANN}/prompts", {"message": "Hi."}, **headers)
    assert (answer.status, answer.error["type"]) == (403, "origin_not_allowed")
    assert (await shop.get(f"{ANN}/work")).json["work"] == []


async def test_a_form_of_another_page_cannot_be_posted(shop: Shop) -> None:
    headers = {**HERE, "content-type": "text/plain"}
    answer = await shop.client.request("POST", f"{ANN}/prompts", b'{"message": "Hi."}', headers=headers)
    assert answer.status == 415
