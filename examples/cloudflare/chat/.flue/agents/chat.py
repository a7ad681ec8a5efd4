"""An agent to talk to over a WebSocket: /api/agents/chat/<customer>, one prompt after the other."""

from choose_model import choose_model
from flue import AgentContext, create_agent

route = True
websocket = True


@create_agent
def agent(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env), "instructions": f"You talk to the customer {ctx.id}. Be brief."}
