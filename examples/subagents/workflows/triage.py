"""flue run triage --root examples/subagents --payload '{"issue": "My issue is a crash at start."}'"""

from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, define_agent_profile

triager = define_agent_profile(
    name="triager",
    description="Looks after one issue.",
    instructions="You look after one issue. Remember what you are told of it. Be brief.",
    budget={"turns": 8},
)


@create_agent
def maintainer(ctx: AgentContext) -> dict[str, Any]:
    return {"model": choose_model(ctx.env), "subagents": [triager]}


async def run(ctx: FlueContext) -> dict[str, Any]:
    harness = await ctx.init(maintainer)
    session = await harness.session()
    await session.task(ctx.payload["issue"], agent="triager", name="issue")
    reply = await session.task("What is my issue?", name="issue")  # the same child, with its memory
    return {"answer": reply.text}
