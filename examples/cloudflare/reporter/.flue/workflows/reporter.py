"""A virtual sandbox that the shell sets up: still no container, so it is fast and cheap."""

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent

route = True

CONFIG = """mkdir -p data && cat > data/config.json << 'EOF'
{
  "rules": ["Be concise", "Use bullet points", "Cite sources"],
  "tone": "professional"
}
EOF"""


@create_agent
def reporter(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(reporter)
    session = await harness.session()
    # The agent's virtual sandbox starts empty; whatever the shell writes, its tools can read.
    await session.shell(CONFIG)
    reply = await session.prompt(
        f"Read the config in /workspace/data/config.json.\nGenerate a report about: {ctx.payload['topic']}"
    )
    return {"report": reply.text}
