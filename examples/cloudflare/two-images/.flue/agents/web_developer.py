"""Works with Node.js and TypeScript, see docker/node.Dockerfile. Its container sleeps after two idle minutes."""

from typing import Any

from flue import AgentContext, create_agent
from flue.cloudflare import get_sandbox

route = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, Any]:
    return {
        "model": "anthropic/claude-sonnet-4-6",
        "instructions": "You write small web pages in TypeScript. Compile them before you say that they work.",
        "sandbox": get_sandbox(ctx.env["NodeBox"], ctx.id, sleep_after="2m"),
    }
