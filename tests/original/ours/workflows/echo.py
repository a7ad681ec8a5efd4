from typing import Any

from flue import FlueContext

route = True
websocket = True


async def run(ctx: FlueContext) -> Any:
    ctx.log.info("echoing", {"given": ctx.payload})
    return ctx.payload
