"""flue run support --root examples/support --payload '{"question": "How do I write a tool?"}'"""

from flue import FlueContext
from support_desk import Answer, ask


async def run(ctx: FlueContext) -> Answer:
    return await ask(ctx, ctx.payload["question"])
