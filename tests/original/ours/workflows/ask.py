from flue import FlueContext

from ..model import new_agent

route = True
websocket = True


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(new_agent())
    session = await harness.session()
    reply = await session.prompt(ctx.payload["question"])
    return {"text": reply.text}
