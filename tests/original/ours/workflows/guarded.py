from flue import FlueContext

from ..model import closed

route = closed
websocket = closed


async def run(ctx: FlueContext) -> None:
    pass
