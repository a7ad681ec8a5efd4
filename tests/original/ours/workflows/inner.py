from flue import FlueContext


async def run(ctx: FlueContext) -> None:
    pass
