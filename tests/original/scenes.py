"""What is said to both servers: requests, and conversations over sockets; `talk.mjs` plays them."""

from __future__ import annotations

import json
from typing import Any

Step = dict[str, Any]
JSON_TYPE = {"content-type": "application/json"}
SSE = {"accept": "text/event-stream"}
CALLS_A_TOOL = '[[call look {"item": "paint"}]] Is there any paint?'


def get(path: str, **headers: str) -> Step:
    """Return a step that reads."""
    return {
        "method": "GET",
        "path": path,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }


def post(path: str, body: Any = None, headers: dict[str, str] | None = None, *, raw: str | None = None) -> Step:
    """Return a step that sends JSON, or `raw` text as JSON."""
    text = raw if raw is not None else None if body is None else json.dumps(body)
    given = {} if text is None else JSON_TYPE
    return {
        "method": "POST",
        "path": path,
        "headers": {**given, **(headers or {})},
        **({} if text is None else {"body": text}),
    }


def talk(path: str, *say: Step) -> Step:
    """Return a step that opens a socket and speaks."""
    return {"path": path, "say": list(say)}


def send(type: str, **fields: Any) -> Step:
    """Return what a client says over a socket."""
    return {"send": {"version": 1, "type": type, **fields}}


def until(count: int = 1, **wanted: Any) -> Step:
    """Return a wait for so many frames with these values."""
    return {"until": wanted, "count": count}


READY = until(type="ready")
BYE: Step = {"close": 1000}
ECHO, BOOM, ASK, CHAT = "/api/workflows/echo", "/api/workflows/boom", "/api/workflows/ask", "/api/agents/chat/ann"

SCENES: dict[str, list[Step]] = {
    # ------------------------------------------------------------------------------------------ workflows
    "a run that is waited for": [post(f"{ECHO}?wait=result", {"a": [1, None, "é"]}), get("/api/runs/{run}")],
    "a run that is accepted": [post(ECHO, {"a": 1}), get("/api/runs/{run}/stream"), get("/api/runs/{run}/events")],
    "a run whose events are streamed": [post(ECHO, {"a": 1}, SSE)],
    "a run that fails, waited for": [post(f"{BOOM}?wait=result", {}), get("/api/runs/{run}")],
    "a run that fails, streamed": [post(BOOM, {}, SSE), get("/api/runs/{run}/events")],
    "a run that is followed while it goes on": [post("/api/workflows/slow"), get("/api/runs/{run}/stream")],
    "a run with an agent": [post(f"{ASK}?wait=result", {"question": "Any paint?"}), get("/api/runs/{run}/events")],
    "a run with an agent, streamed": [post(ASK, {"question": CALLS_A_TOOL}, SSE)],
    "payloads": [
        post(f"{ECHO}?wait=result", raw="[1, 2]"),
        post(f"{ECHO}?wait=result", raw='"text"'),
        post(f"{ECHO}?wait=result", raw="null"),
        post(f"{ECHO}?wait=result", raw="  "),
        post(f"{ECHO}?wait=result"),
    ],
    "bodies that are refused": [
        post(ECHO, raw="{nope"),
        post(ECHO, raw="{}", headers={"content-type": "text/plain"}),
    ],
    "queries that are refused": [post(f"{ECHO}?wait=forever", {})],
    "the way to wait counts before the accepted form": [post(f"{ECHO}?wait=result", {}, SSE)],
    "workflows that are not there": [
        post("/api/workflows/nope", {}),
        post("/api/workflows/inner", {}),
        post("/api/workflows/guarded", {}),
        get(ECHO),
    ],
    # --------------------------------------------------------------------------------------------- agents
    "a prompt": [post(CHAT, {"message": "Any paint?"})],
    "a prompt, streamed": [post("/api/agents/chat/bob", {"message": "Any paint?", "session": "shop"}, SSE)],
    "a prompt that calls a tool": [post("/api/agents/chat/cid", {"message": CALLS_A_TOOL}, SSE)],
    "prompts that are refused": [
        post(CHAT, {}),
        post(CHAT, {"message": 1}),
        post(CHAT, {"message": "x", "session": " "}),
        post(CHAT, raw="[]"),
        post(CHAT, raw="{nope"),
        post(CHAT, raw="hi", headers={"content-type": "text/plain"}),
        post("/api/agents/chat/%20", {"message": "x"}),
        post(CHAT, {"message": "x"}, {"x-webhook": "true"}),
    ],
    "agents that are not there": [
        post("/api/agents/nope/x", {"message": "x"}),
        post("/api/agents/inner/x", {"message": "x"}),
        post("/api/agents/guarded/x", {"message": "x"}),
        get(CHAT),
    ],
    # ----------------------------------------------------------------------------------------------- runs
    "pages of events": [
        post(f"{ECHO}?wait=result", {"a": 1}),
        get("/api/runs/{run}/events?limit=2"),
        get("/api/runs/{run}/events?after=0"),
        get("/api/runs/{run}/events?after=99"),
        get("/api/runs/{run}/events?types=log,run_end"),
        get("/api/runs/{run}/events?types=nope"),
        get("/api/runs/{run}/events?limit=0"),
        get("/api/runs/{run}/events?limit=1001"),
        get("/api/runs/{run}/events?after=x"),
    ],
    "streams that are taken up again": [
        post(f"{ECHO}?wait=result", {"a": 1}),
        get("/api/runs/{run}/stream", last_event_id="1"),
        get("/api/runs/{run}/stream", last_event_id="99"),
        get("/api/runs/{run}/stream", last_event_id="nope"),
    ],
    "runs that are not there": [
        get("/api/runs/nope"),
        get("/api/runs/nope/events"),
        get("/api/runs/nope/stream"),
        post("/api/runs/nope", {}),
    ],
    "what operators see": [
        get("/admin/agents"),
        post(f"{ECHO}?wait=result", {"a": 1}),
        get("/admin/runs?limit=1"),
        get("/admin/runs?limit=1&workflowName=boom&status=errored"),
        get("/admin/runs?status=nope"),
        get("/admin/runs?limit=0"),
        get("/admin/runs?cursor=nope&limit=1"),
        get("/admin/runs/{run}"),
        get("/admin/runs/nope"),
    ],
    # -------------------------------------------------------------------------------------------- sockets
    "an agent's socket": [
        talk(
            "/api/agents/chat/dan",
            READY,
            send("ping", requestId="p1"),
            until(type="pong"),
            send("ping"),
            until(2, type="pong"),
            send("prompt", requestId="r1", message="Any paint?", session="shop"),
            until(type="result"),
            send("prompt", requestId="r2", message=CALLS_A_TOOL),
            until(2, type="result"),
            BYE,
        )
    ],
    "an agent's socket that is misused": [
        talk(
            "/api/agents/chat/eve",
            READY,
            {"send": "{nope"},
            until(1, type="error"),
            {"send": "[]"},
            until(2, type="error"),
            {"send": {"version": 2, "type": "ping"}},
            until(3, type="error"),
            send("invoke", requestId="r1"),
            until(4, type="error"),
            send("prompt", message="x"),
            until(5, type="error"),
            send("prompt", requestId="r1"),
            until(6, type="error"),
            send("prompt", requestId="r1", message="x", session=" "),
            until(7, type="error"),
            send("ping", requestId=1),
            until(8, type="error"),
            {"bytes": [1, 2]},
        )
    ],
    "a workflow's socket": [talk(ECHO, READY, send("invoke", requestId="r1", payload={"a": 1}))],
    "a workflow's socket whose run fails": [talk(BOOM, READY, send("invoke", requestId="r1"))],
    "a workflow's socket that is misused": [
        talk(
            ECHO,
            READY,
            send("prompt", requestId="r1", message="x"),
            until(1, type="error"),
            send("invoke"),
            until(2, type="error"),
            {"bytes": [1, 2]},
        )
    ],
    "a workflow's socket takes one invocation": [
        talk(
            "/api/workflows/slow",
            READY,
            send("invoke", requestId="r1"),
            until(2, type="event"),
            send("invoke", requestId="r2"),
        )
    ],
    "sockets that are refused": [
        {"upgrade": "/api/workflows/nope"},
        {"upgrade": "/api/workflows/inner"},
        {"upgrade": "/api/workflows/guarded"},
        {"upgrade": "/api/agents/nope/x"},
        {"upgrade": "/api/agents/inner/x"},
        {"upgrade": "/api/agents/guarded/x"},
    ],
}
