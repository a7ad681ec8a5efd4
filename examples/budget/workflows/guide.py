"""flue run guide --root examples/budget --payload '{"question": "Where is the lighthouse?"}'"""

from typing import Any

from choose_model import choose_model
from flue import AgentContext, BudgetExceededError, FlueContext, create_agent


@create_agent
def guide(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env), "instructions": "Answer from the files. Be brief."}


async def run(ctx: FlueContext) -> dict[str, Any]:
    harness = await ctx.init(guide)
    session = await harness.session()
    await session.fs.write_file("island.md", "# Lighthouse\n\nThe lighthouse stands on the north cape.\n")
    pauses = 0
    call = session.prompt(ctx.payload["question"], budget={"turns": 1})
    while True:
        try:
            reply = await call
        except BudgetExceededError as pause:  # here a person could be asked
            ctx.log.info(pause.message)
            pauses += 1
            call = session.resume(budget={"turns": 1, "usd": 0.10})
        else:
            return {"pauses": pauses, "answer": reply.text, "usd": reply.cost}
