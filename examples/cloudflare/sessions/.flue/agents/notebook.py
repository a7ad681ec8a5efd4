"""An agent that remembers: each id has a Durable Object of its own, which keeps its conversations."""

from choose_model import choose_model
from flue import AgentContext, create_agent

route = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env), "instructions": "You keep notes for one person. Be brief."}
