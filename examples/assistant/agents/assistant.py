"""flue connect assistant alice --root examples/assistant"""

from typing import Any, Literal

from choose_model import choose_model
from flue import AgentContext, create_agent, tool

ORDERS = {"A-1042": "shipped on Tuesday", "A-1043": "being packed"}


@tool
def order_status(order_id: str) -> str:
    """Say where an order is.

    Args:
        order_id: the number on the receipt, such as A-1042
    """
    return f"Order {order_id}: {ORDERS.get(order_id, 'unknown number')}."


@tool
def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
    """Say when the shop is open."""
    return {"weekday": "9 to 18", "saturday": "10 to 14", "sunday": "closed"}[day]


@create_agent
def agent(ctx: AgentContext) -> dict[str, Any]:
    return {
        "model": choose_model(ctx.env),
        "instructions": f"You are the assistant of a bicycle shop. The customer is {ctx.id}. Be brief and friendly.",
        "tools": [order_status, opening_hours],
    }
