"""Works with Python and pandas, see docker/python.Dockerfile."""

from typing import Any

from flue import AgentContext, create_agent
from flue.cloudflare import get_sandbox

route = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, Any]:
    return {
        "model": "anthropic/claude-sonnet-4-6",
        "instructions": "You analyse data with Python and pandas. Show the numbers behind every claim.",
        "sandbox": get_sandbox(ctx.env["PyBox"], ctx.id),
    }
