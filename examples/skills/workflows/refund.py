"""flue run refund --root examples/skills --payload '{"question": "Are gift cards refunded?"}'"""

from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, skill

refund = skill("../skills/refund/SKILL.md")


@create_agent
def clerk(ctx: AgentContext) -> dict[str, Any]:
    return {"model": choose_model(ctx.env), "skills": [refund]}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(clerk)
    session = await harness.session()
    answer = await session.skill("refund", args={"question": ctx.payload["question"]})
    # A skill of the workspace lies in the agent's own files, here written just now.
    await session.fs.write_file(
        ".agents/skills/opening-hours/SKILL.md",
        "---\nname: opening-hours\ndescription: Says when the shop is open.\n---\n\n"
        "The shop is open on weekdays from 9 to 6. On Sunday the shop is closed.\n",
    )
    hours = await session.skill("opening-hours", args={"question": "Is the shop open on Sunday?"})
    return {"answer": answer.text, "hours": hours.text}
