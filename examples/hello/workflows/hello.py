"""flue run hello --root examples/hello --payload '{"name": "Ada"}'"""

from pydantic import BaseModel

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent


@create_agent
def greeter(ctx: AgentContext) -> dict[str, str]:
    return {"model": choose_model(ctx.env)}


class Greeting(BaseModel):
    greeting: str


async def run(ctx: FlueContext) -> dict[str, str]:
    harness = await ctx.init(greeter)
    session = await harness.session()
    echo = await session.shell('echo "Hello from Flue!"')
    name = ctx.payload.get("name", "World")
    reply = await session.prompt(f'Say "Hello, {name}!"', result=Greeting)
    return {"shell": echo.stdout.strip(), "greeting": reply.data.greeting}
