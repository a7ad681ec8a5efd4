from flue import FlueContext

route = True
websocket = True


async def run(ctx: FlueContext) -> None:
    raise Exception("kaboom")
