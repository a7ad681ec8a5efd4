"""flue run support --root examples/support --payload '{"question": "How do I write a tool?"}'"""

from support_desk import Answer, ask

from flue import FlueContext


async def run(ctx: FlueContext) -> Answer:
    return await ask(ctx, ctx.payload["question"])
