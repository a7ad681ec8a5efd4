"""flue run refund --root examples/approval --payload '{"order": "A-1042", "approve": true}'"""

import asyncio
from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, tool


@tool(approval=True)
def refund(order_id: str) -> str:
    """Refund an order."""
    return f"Order {order_id} is refunded."


@create_agent
def clerk(ctx: AgentContext) -> dict[str, Any]:
    return {"model": choose_model(ctx.env), "tools": [refund]}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(clerk)
    session = await harness.session()
    prompt = session.prompt(f"Refund order {ctx.payload['order']}")
    while not prompt.done:
        for waiting in session.approvals.pending:  # here a person would be asked
            if ctx.payload["approve"]:
                await session.approve(waiting.tool_call_id)
            else:
                await session.deny(waiting.tool_call_id, "It was delivered yesterday.")
        await asyncio.sleep(0.01)
    return {"answer": (await prompt).text}
