"""Articles that come with the project, copied into the virtual sandbox, where the agent's tools search them."""

from pathlib import Path

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent

route = True
ARTICLES = Path(__file__).parent.parent / "articles"


@create_agent
def support(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(support)
    session = await harness.session()
    await session.fs.mkdir("/workspace/articles", recursive=True)
    for article in sorted(ARTICLES.glob("*.md")):
        await session.fs.write_file(f"/workspace/articles/{article.name}", article.read_text(encoding="utf-8"))
    reply = await session.prompt(
        "You are a support agent. Search the workspace for articles relevant to this request, "
        f"then write a helpful response.\n\nCustomer: {ctx.payload['message']}"
    )
    return {"response": reply.text}
