"""flue run tour --root examples/steering --payload '{"change": "When does the ferry leave?"}'"""

import asyncio

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent


@create_agent
def guide(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env), "instructions": "Answer the latest question, from the files. Be brief."}


async def run(ctx: FlueContext) -> str:
    harness = await ctx.init(guide)
    session = await harness.session()
    await session.fs.write_file("island.md", "# Lighthouse\n\nOn the cape.\n\n# Ferry\n\nThe ferry leaves at nine.\n")
    prompt = session.prompt("Where is the lighthouse?")
    await asyncio.sleep(0)  # it runs now; a person changes their mind
    joined = session.steer(ctx.payload["change"])
    assert joined is prompt
    return (await prompt).text
