"""flue run knowledge --id acme --root examples/webhook-agent --payload '{"message": "I forgot my password"}'"""

from pathlib import Path
from typing import Any

from choose_model import choose_model
from flue import FlueContext
from flue.sandboxes import directory, virtual

triggers = {"webhook": True}

ARTICLES = Path(__file__).resolve().parents[1] / "articles"


async def run(ctx: FlueContext) -> dict[str, Any]:
    sandbox = virtual(files=directory(ARTICLES, into="articles"))
    harness = await ctx.init(model=choose_model(ctx.env), sandbox=sandbox, role="support")
    session = await harness.session()
    reply = await session.prompt(f"Search the articles and answer: {ctx.payload['message']}")
    return {"response": reply.text, "run": ctx.run_id}
