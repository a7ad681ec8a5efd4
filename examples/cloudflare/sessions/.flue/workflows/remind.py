"""Tells several notebooks something and does not wait: each takes it in when it gets to it, once, whatever happens."""

from flue import FlueContext, dispatch

route = True


async def run(ctx: FlueContext) -> dict[str, str]:
    receipts = {}
    for person in ctx.payload["people"]:
        receipt = await dispatch("notebook", id=person, input={"remember": ctx.payload["note"]})
        receipts[person] = receipt.dispatch_id
    return receipts
