"""flue run support --root examples/support-articles --payload '{"message": "I forgot my password"}'"""

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent

route = True

ARTICLES = {
    "reset-password.md": "# Reset your password\n\n"
    "Forgot it? Use the account settings page to request a password reset email.\n",
    "invoices.md": "# Invoices\n\nEvery invoice is in the billing area, as a PDF, from the first of the month.\n",
    "delete-account.md": "# Delete your account\n\nWrite to us from the address of the account; it takes two days.\n",
}


@create_agent
def support(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(support)
    session = await harness.session()
    await session.fs.mkdir("/workspace/articles", recursive=True)
    for name, text in ARTICLES.items():
        await session.fs.write_file(f"/workspace/articles/{name}", text)
    reply = await session.prompt(
        "You are a support agent. Search the workspace for articles relevant to this request, "
        f"then write a helpful response.\n\nCustomer: {ctx.payload['message']}"
    )
    return {"response": reply.text}
