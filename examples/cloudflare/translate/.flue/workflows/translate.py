"""The simplest agent: no container, no storage, a prompt and a typed result."""

from typing import Literal

from pydantic import BaseModel

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent

route = True


@create_agent
def translator(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


class Translation(BaseModel):
    translation: str
    confidence: Literal["low", "medium", "high"]


async def run(ctx: FlueContext) -> Translation:
    harness = await ctx.init(translator)
    session = await harness.session()
    reply = await session.prompt(f"Translate to {ctx.payload['language']}: {ctx.payload['text']}", result=Translation)
    return reply.data
