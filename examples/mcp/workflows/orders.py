"""flue run orders --root examples/mcp --payload '{"question": "What is the order status of A-1042?"}'"""

import sys
from pathlib import Path

from pydantic import BaseModel

from choose_model import choose_model
from flue import AgentContext, FlueContext, connect_mcp_server, create_agent

SERVER = [sys.executable, str(Path(__file__).parents[1] / "shop_server.py")]


class Payload(BaseModel):
    """What `flue mcp --root examples/mcp` tells clients that this workflow takes."""

    question: str


@create_agent
def clerk(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env), "instructions": "You answer questions about orders. Be brief."}


async def run(ctx: FlueContext) -> dict[str, str]:
    async with connect_mcp_server("shop", command=SERVER) as shop:
        harness = await ctx.init(clerk, tools=shop.tools)
        session = await harness.session()
        reply = await session.prompt(ctx.payload["question"])
        return {"answer": reply.text}
