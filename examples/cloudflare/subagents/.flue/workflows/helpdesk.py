"""An agent with a subagent: what it is asked to search for is done in a session apart."""

from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, define_agent_profile

route = True

triager = define_agent_profile(
    name="triager",
    description="Searches for what a request needs.",
    instructions="Search thoroughly, cite sources, and stay concise.",
)


@create_agent
def support(ctx: AgentContext) -> dict[str, Any]:
    return {"model": choose_model(ctx.env), "subagents": [triager]}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(support)
    session = await harness.session()
    reply = await session.task(ctx.payload["request"], agent="triager")
    return {"answer": reply.text}
