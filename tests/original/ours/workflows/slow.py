import asyncio

from flue import FlueContext

route = True
websocket = True


async def run(ctx: FlueContext) -> None:
    for beat in range(4):
        ctx.log.info(f"beat {beat}")
        await asyncio.sleep(0.1)
