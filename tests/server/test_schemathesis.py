"""The server against its own description: whatever is sent, the answer is one that the description names."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.testclient import TestClient

from flue import FlueContext, create_agent
from flue.server.app import admin, asgi
from flue.testing import ScriptedModel

TOKEN = "t0ken"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
EXAMPLES = settings(
    max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=True
)
pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


async def echo(ctx: FlueContext) -> Any:
    return ctx.payload


Case = schemathesis.Case[Any]
api = asgi(agents={"chat": create_agent(model=ScriptedModel(itertools.repeat("Hello.")))}, workflows={"echo": echo})
public = schemathesis.openapi.from_asgi("/openapi.json", api).exclude(operation_id="streamAgent")
private = schemathesis.openapi.from_asgi("/openapi.json", admin(api))


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """Return values of path parameters for which there is something."""
    client = TestClient(api)
    run_id = client.post("/workflows/echo?wait=result", json=1).headers["x-flue-run-id"]
    answer = client.post("/agents/chat/ann", json={"message": "hi"})
    return {"id": "ann", "runId": run_id, "submissionId": answer.headers["x-flue-submission-id"]}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUE_DISPATCH_TOKEN", TOKEN)


def aim(case: Case, known: dict[str, str]) -> None:
    """Have most of what is generated get past the addresses."""
    if len(str(case.path_parameters)) % 4:
        names = {"name": "chat" if case.operation.path.startswith("/agents") else "echo", **known}
        case.path_parameters = {name: names.get(name, value) for name, value in case.path_parameters.items()}


@public.parametrize()
@EXAMPLES
def test_the_public_routes_keep_their_word(case: Case, known: dict[str, str]) -> None:
    aim(case, known)
    # Schemathesis takes the events of a stream apart; the description speaks of its text.
    streams = case.operation.path.endswith("/stream")
    checks = [check for check in CHECKS if not streams or check is not response_schema_conformance]
    case.call_and_validate(headers={"authorization": f"Bearer {TOKEN}"}, checks=checks)


@private.parametrize()
@EXAMPLES
def test_the_admin_routes_keep_their_word(case: Case, known: dict[str, str]) -> None:
    aim(case, known)
    case.call_and_validate(checks=CHECKS)
