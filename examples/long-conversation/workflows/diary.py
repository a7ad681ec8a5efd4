"""flue run diary --root examples/long-conversation --payload '{"question": "What is my favourite tea?"}'"""

from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, observe
from flue.events import Compaction, Event

ENTRIES = ["My order is A-1042.", "My favourite colour is teal.", "My favourite tea is Assam."]


def note(event: Event, context: Any) -> None:
    """Log each compaction."""
    if isinstance(event, Compaction):
        context.log.info("The conversation was summarised.")


observe(note)


@create_agent
def listener(ctx: AgentContext) -> dict[str, Any]:
    # Compaction starts by itself when the window fills up. So little is kept that it has work here.
    return {"model": choose_model(ctx.env), "compaction": {"keep_recent_tokens": 20}}


async def run(ctx: FlueContext) -> dict[str, Any]:
    harness = await ctx.init(listener)
    session = await harness.session()
    for entry in ENTRIES:
        await session.prompt(entry)
    compacted = await session.compact("Keep order numbers.")
    reply = await session.prompt(ctx.payload["question"])
    return {"compacted": compacted, "answer": reply.text}
