"""A coding agent in a container of its own: git, Node.js and whatever the Dockerfile adds."""

from typing import Any

from flue import AgentContext, create_agent
from flue.cloudflare import get_sandbox

route = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, Any]:
    return {
        "model": "anthropic/claude-sonnet-4-6",
        "sandbox": get_sandbox(ctx.env["Sandbox"], ctx.id),
    }
