"""What goes over HTTP: addresses, headers, bodies; and what answers mean."""

from __future__ import annotations

import asyncio
import math
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flue.errors import UsageError
from flue.sdk import (
    AsyncClient,
    DispatchReceipt,
    FlueApiError,
    FlueTransportError,
    Invocation,
    RunPage,
    create_flue_client,
)
from tests.sdk.scripted_server import Reply, Request, ScriptedServer, answer, problem

Call = Callable[[AsyncClient], Awaitable[Any]]
SUBMISSION = {"submissionId": "sub_1", "status": "running"}
RUN = {"runId": "r1", "status": "active"}

CALLS: list[tuple[Call, Reply, str, Any, Any]] = [
    (
        lambda c: c.agents.invoke("chat", "ann", "Hi"),
        answer({"result": {"text": "Yes"}}, x_flue_submission_id="sub_1"),
        "POST /agents/chat/ann",
        {"message": "Hi"},
        Invocation({"text": "Yes"}, submission_id="sub_1"),
    ),
    (
        lambda c: c.agents.invoke("chat", "ann", "Hi", session="s", busy="reject"),
        answer({"result": {}}),
        "POST /agents/chat/ann?busy=reject",
        {"message": "Hi", "session": "s"},
        Invocation({}),
    ),
    (
        lambda c: c.agents.invoke("chat", "ann", "Hi"),
        answer({"status": "waiting", "submissionId": "sub_1", "waitingFor": {"reason": "approval"}}, 202),
        "POST /agents/chat/ann",
        {"message": "Hi"},
        Invocation(waiting_for={"reason": "approval"}),
    ),
    (
        lambda c: c.agents.invoke("report", "ann", payload={"n": 1}, wait=False),
        answer({"status": "accepted", "runId": "r1"}, 202, x_flue_run_id="r1"),
        "POST /agents/report/ann",
        {"n": 1},
        Invocation(run_id="r1"),
    ),
    (
        lambda c: c.agents.dispatch("chat", "ann", None, session="s", dispatch_id="d"),
        answer({"dispatchId": "d", "acceptedAt": "2026-01-01T00:00:00.000Z"}, 202),
        "POST /agents/chat/ann/dispatch",
        {"input": None, "session": "s", "dispatchId": "d"},
        DispatchReceipt("d", "2026-01-01T00:00:00.000Z"),
    ),
    (
        lambda c: c.agents.submission("chat", "ann", "sub_1"),
        answer(SUBMISSION),
        "GET /agents/chat/ann/submissions/sub_1",
        None,
        SUBMISSION,
    ),
    (
        lambda c: c.agents.abort("chat", "ann", "sub_1", reason="no"),
        answer(SUBMISSION, 202),
        "POST /agents/chat/ann/submissions/sub_1/abort",
        {"reason": "no"},
        SUBMISSION,
    ),
    (
        lambda c: c.agents.approve("chat", "ann", "call/1"),
        answer({}, 202),
        "POST /agents/chat/ann/approvals/call%2F1",
        {"approved": True},
        None,
    ),
    (
        lambda c: c.agents.deny("chat", "ann", "call_1", reason="no", session="s"),
        answer({}, 202),
        "POST /agents/chat/ann/approvals/call_1",
        {"approved": False, "reason": "no", "session": "s"},
        None,
    ),
    (
        lambda c: c.agents.raise_budget("chat", "ann", {"usd": 2.5}, session="s"),
        answer({}, 202),
        "POST /agents/chat/ann/budget",
        {"usd": 2.5, "session": "s"},
        None,
    ),
    (
        lambda c: c.workflows.invoke("slow", [1]),
        answer({"result": "done", "_meta": {"runId": "r1"}}, x_flue_run_id="r1"),
        "POST /workflows/slow?wait=result",
        [1],
        Invocation("done", "r1"),
    ),
    (
        lambda c: c.workflows.invoke("slow", wait=False),
        answer({"status": "accepted", "runId": "r1"}, 202, x_flue_run_id="r1"),
        "POST /workflows/slow",
        None,
        Invocation(run_id="r1"),
    ),
    (lambda c: c.runs.get("workflow:slow:1"), answer(RUN), "GET /runs/workflow%3Aslow%3A1", None, RUN),
    (
        lambda c: c.runs.events("r1", after=-1, types=["log", "idle"], limit=5),
        answer({"events": [{"type": "log"}]}),
        "GET /runs/r1/events?after=-1&types=log%2Cidle&limit=5",
        None,
        [{"type": "log"}],
    ),
    (lambda c: c.runs.abort("r1"), answer(RUN), "POST /runs/r1/abort", {}, RUN),
    (lambda c: c.runs.send_event("r1", "go", [1]), answer({}, 202), "POST /runs/r1/events/go", [1], None),
    (
        lambda c: c.admin.agents.list(),
        answer({"items": [{"name": "chat", "transports": {}, "created": True}]}),
        "GET /admin/agents",
        None,
        [{"name": "chat", "transports": {}, "created": True}],
    ),
    (
        lambda c: c.admin.runs.list(status="active", workflow_name="slow", cursor="x=", limit=2),
        answer({"items": [RUN], "nextCursor": "y"}),
        "GET /admin/runs?status=active&workflowName=slow&cursor=x%3D&limit=2",
        None,
        RunPage([RUN], "y"),  # type: ignore[list-item]
    ),
    (lambda c: c.admin.runs.get("r1"), answer(RUN), "GET /admin/runs/r1", None, RUN),
]


@pytest.mark.parametrize(("call", "reply", "asked", "body", "gives"), CALLS, ids=[call[2] for call in CALLS])
async def test_a_call_asks_what_the_server_knows_and_gives_what_it_says(
    call: Call, reply: Reply, asked: str, body: Any, gives: Any
) -> None:
    async with ScriptedServer(lambda _: reply) as server, AsyncClient(base_url=server.url) as client:
        assert await call(client) == gives
        (request,) = server.requests
        assert f"{request.method} {request.path}" == asked
        assert (request.json if request.body else None) == body
        assert request.headers.get("content-type") == ("application/json" if request.body else None)


async def test_a_prompts_text_is_at_hand() -> None:
    assert Invocation({"text": "Yes"}).text == "Yes"
    with pytest.raises(FlueTransportError, match="no text"):
        _ = Invocation(["Yes"]).text


async def headers_of(**options: Any) -> dict[str, str]:
    async with ScriptedServer(lambda _: answer({"result": 1})) as server:
        async with AsyncClient(base_url=server.url, **options) as client:
            await client.workflows.invoke("slow", {}, key="k1")
        return server.requests[0].headers


async def test_the_token_is_a_bearer_token_and_a_key_makes_a_call_count_once() -> None:
    headers = await headers_of(token="t0")
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer t0", "k1")


async def later() -> dict[str, str]:
    return {"X-Who": "ann"}


@pytest.mark.parametrize("given", [{"X-Who": "ann"}, lambda: {"X-Who": "ann"}, later], ids=["map", "call", "await"])
async def test_headers_are_a_mapping_or_a_function_that_gives_one(given: Any) -> None:
    assert (await headers_of(headers=given))["x-who"] == "ann"


async def test_the_callers_own_headers_win_whatever_their_case() -> None:
    headers = await headers_of(
        token="t0", headers={"AUTHORIZATION": "Basic x", "content-TYPE": "application/json; x=1"}
    )
    assert (headers["authorization"], headers["content-type"]) == ("Basic x", "application/json; x=1")


async def test_a_client_of_ones_own_is_used_and_stays_open() -> None:
    async with httpx2.AsyncClient(headers={"X-Own": "1"}) as own:
        assert (await headers_of(http_client=own))["x-own"] == "1"
        assert not own.is_closed


@pytest.mark.parametrize("suffix", ["/api", "/api/"])
async def test_the_path_of_the_base_url_belongs_to_every_address_but_the_operators(suffix: str) -> None:
    async with ScriptedServer(lambda _: answer({"items": [], "result": 1})) as server:
        async with AsyncClient(base_url=server.url + suffix, admin_base_path="/ops/") as client:
            await client.workflows.invoke("slow", wait=False)
            await client.admin.agents.list()
        assert [request.path for request in server.requests] == ["/api/workflows/slow", "/ops/agents"]


@pytest.mark.parametrize(
    ("id", "path"), [("a/b", "a%2Fb"), ("a b?c#d", "a%20b%3Fc%23d"), ("é", "%C3%A9"), ("%2e", "%252e"), ("...", "...")]
)
async def test_an_id_is_one_segment_of_the_path_whatever_it_holds(id: str, path: str) -> None:
    async with ScriptedServer(lambda _: answer({"result": 1})) as server, AsyncClient(base_url=server.url) as client:
        await client.agents.invoke("chat", id, "x")
        assert server.requests[0].path == f"/agents/chat/{path}"


@pytest.mark.parametrize("id", ["", ".", "..", "\ud800"])
async def test_an_id_that_would_lead_elsewhere_is_refused(id: str) -> None:
    async with AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(UsageError) as caught:
            await client.agents.invoke("chat", id, "x")
        assert caught.value.code == "invalid_id"


@pytest.mark.parametrize("url", ["localhost:3583", "ftp://x", "http://", "http://x?y=1", "http://x#y", "", "http://[x"])
def test_a_base_url_is_checked_at_once(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        create_flue_client(base_url=url)
    assert caught.value.code == "invalid_url"


@pytest.mark.parametrize("value", [math.nan, {"x": object()}, "\ud800", [math.inf]])
async def test_what_has_no_json_form_is_not_sent(value: Any) -> None:
    async with ScriptedServer(lambda _: answer({})) as server, AsyncClient(base_url=server.url) as client:
        with pytest.raises(UsageError) as caught:
            await client.workflows.invoke("slow", value)
        assert caught.value.code == "invalid_input"
        assert not server.requests


async def test_a_header_that_cannot_be_sent_does_not_show_its_value() -> None:
    async with ScriptedServer(lambda _: answer({})) as server:
        async with AsyncClient(base_url=server.url, token="swordfish\n") as client:
            with pytest.raises(UsageError) as caught:
                await client.runs.get("r1")
        assert caught.value.code == "invalid_header"
        assert "swordfish" not in repr([caught.value, caught.value.__cause__])


# -------------------------------------------------------------------------------------------------- errors


async def test_an_error_has_status_code_and_body() -> None:
    async with (
        ScriptedServer(lambda _: problem(404, "run_not_found")) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueApiError) as caught:
            await client.runs.get("nope")
        error = caught.value
        assert str(error) == "Flue API error 404 [run_not_found]: It went wrong. Try another."
        assert (error.status, error.code, error.body["error"]["type"]) == (404, "run_not_found", "run_not_found")


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (Reply(502, {}, [b"<html>Bad \xff"]), "<html>Bad \ufffd"),
        (Reply(500, {}, [b'{"error":"x"}']), {"error": "x"}),
        (Reply(500, {}, [b'{"error":{"type":5,"message":[]}}']), {"error": {"type": 5, "message": []}}),
        (Reply(404, {}, []), ""),
        (Reply(302, {"location": "http://127.0.0.1:1/"}, []), ""),
    ],
)
async def test_an_error_without_an_envelope_is_an_error_all_the_same(reply: Reply, body: Any) -> None:
    async with ScriptedServer(lambda _: reply) as server, AsyncClient(base_url=server.url, token="t") as client:
        with pytest.raises(FlueApiError, match=f"Flue API error {reply.status}") as caught:
            await client.runs.get("r1")
        assert (caught.value.body, caught.value.code) == (body, "api_error")


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"null", b"[" * 100_000, b"\xff"])
async def test_a_success_without_a_json_object_is_not_the_protocol(data: bytes) -> None:
    async with ScriptedServer(lambda _: Reply(200, {}, [data])) as server, AsyncClient(base_url=server.url) as client:
        with pytest.raises(FlueTransportError) as caught:
            await client.runs.get("r1")
        assert (caught.value.code, caught.value.retryable) == ("server_protocol", False)


async def test_an_answer_that_lacks_what_was_asked_for_is_not_the_protocol() -> None:
    async with ScriptedServer(lambda _: answer({})) as server, AsyncClient(base_url=server.url) as client:
        for call in (client.runs.events("r1"), client.admin.agents.list(), client.agents.dispatch("chat", "ann", 1)):
            with pytest.raises(FlueTransportError, match="The answer has no"):
                await call


async def test_a_server_that_is_not_there_is_told_with_its_address_alone() -> None:
    async with AsyncClient(base_url="http://ann:swordfish@127.0.0.1:1/secret") as client:
        with pytest.raises(FlueTransportError, match=r"^http://127\.0\.0\.1:1 cannot be reached") as caught:
            await client.runs.get("r1")
        assert (caught.value.code, caught.value.retryable) == ("server_unreachable", True)


async def test_an_answer_that_breaks_off_is_told() -> None:
    async with (
        ScriptedServer(lambda _: Reply(200, {}, [b'{"resu'], cut=True)) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError) as caught:
            await client.runs.get("r1")
        assert caught.value.code == "connection_broken"


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async with (
        ScriptedServer(lambda _: Reply(200, {}, [], hang=True)) as server,
        AsyncClient(base_url=server.url, timeout=0.05) as client,
    ):
        with pytest.raises(FlueTransportError) as caught:
            await client.workflows.invoke("slow")
        assert caught.value.code == "timeout"


async def test_a_call_that_is_cancelled_lets_its_connection_go() -> None:
    async with (
        ScriptedServer(lambda _: Reply(200, {}, [], hang=True)) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        call = asyncio.create_task(client.workflows.invoke("slow"))
        async with asyncio.timeout(5):
            while not server.requests:  # noqa: ASYNC110 - the server's doing
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while not server.gone:  # noqa: ASYNC110 - the server's doing
                await asyncio.sleep(0.001)


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=localhost"
    subprocess.run(made.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_an_encrypted_server_must_show_a_certificate_that_is_trusted(self_signed: ssl.SSLContext) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed)
    port = server.sockets[0].getsockname()[1]
    try:
        async with AsyncClient(base_url=f"https://127.0.0.1:{port}") as client:
            with pytest.raises(FlueTransportError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.runs.get("r1")
    finally:
        server.close()


async def test_many_streams_at_a_time_wait_for_nobody() -> None:
    def handler(request: Request) -> Reply:
        return Reply(200, {}, [], hang=True) if "slow" in request.path else answer({"runId": "r1"})

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        waiting = [asyncio.create_task(client.workflows.invoke("slow")) for _ in range(120)]
        async with asyncio.timeout(10):
            while len(server.requests) < 120:  # noqa: ASYNC110 - the server's doing
                await asyncio.sleep(0.001)
            assert (await client.runs.get("r1"))["runId"] == "r1"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
