"""flue run watched --root examples/observability --payload '{"question": "When is the library open?"}'"""

import logging
from collections import Counter
from typing import Any

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, observe
from flue.events import Event, Operation, ToolCallEnd
from flue.observability import log_events

# One JSON object a line on standard error. Prompts, answers and results are not in it.
lines = logging.getLogger("flue.events")
lines.setLevel(logging.INFO)
lines.addHandler(logging.StreamHandler())
log_events(lines)

tool_calls: Counter[str] = Counter()
tokens: Counter[str] = Counter()


def count(event: Event, context: Any) -> None:
    match event:
        case ToolCallEnd():
            tool_calls[event.tool_name] += 1
        case Operation() if event.usage is not None:
            tokens["input"] += event.usage.input
            tokens["output"] += event.usage.output


observe(count)


@create_agent
def guide(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


async def run(ctx: FlueContext) -> dict[str, Any]:
    harness = await ctx.init(guide)
    session = await harness.session()
    await session.fs.write_file("library.md", "# The library\n\nThe library is open from 9 to 18 on weekdays.\n")
    reply = await session.prompt(ctx.payload["question"])
    return {"answer": reply.text, "tool_calls": dict(tool_calls), "tokens": dict(tokens)}
