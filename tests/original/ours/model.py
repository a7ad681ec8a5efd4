import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from flue import Agent, create_agent, register_provider, tool

register_provider(
    "fake",
    api="anthropic-messages",
    base_url=os.environ["FAKE_MODEL_URL"],
    api_key="test-key",
)


async def closed(request: Request, call_next: Any) -> JSONResponse:
    return JSONResponse({"who": "nobody"}, 401)


@tool
def look(item: str) -> str:
    """Look an item up."""
    return f"{item}: 3 left"


def new_agent() -> Agent:
    return create_agent(model="fake/m1", tools=[look])
