"""Reviews code on GitHub with a token that its container never sees, see cloudflare.js beside this folder."""

from typing import Any

from flue import AgentContext, create_agent
from flue.cloudflare import get_sandbox

route = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, Any]:
    return {
        "model": "anthropic/claude-sonnet-4-6",
        "instructions": (
            "You review pull requests. Clone with git over https; ask https://api.github.com with curl. "
            "Both work without a token: never look for one."
        ),
        "sandbox": get_sandbox(ctx.env["Sandbox"], ctx.id),
    }
