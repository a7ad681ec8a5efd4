"""A support agent that answers from the documentation of this repository, with the file the answer came from."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from choose_model import choose_model
from flue import AgentContext, FlueContext, create_agent, register_provider
from flue.sandboxes import directory, virtual

DOCS = Path(__file__).resolve().parents[2] / "docs"

INSTRUCTIONS = """You answer questions about Flue for Python from the files in docs/, and from nothing else.
Search with grep and glob, read what looks right, then answer in a few sentences. If the files do not say, say so."""


class Answer(BaseModel):
    answer: str = Field(description="The answer, in a few sentences; code where it helps")
    source: str = Field(description="Path of the file that the answer comes from, empty when there is none")
    quote: str = Field(description="One sentence of that file, word for word, that supports the answer")
    confidence: Literal["low", "medium", "high"]


@create_agent
def support(ctx: AgentContext) -> dict[str, Any]:
    if base_url := ctx.env.get("OPENAI_BASE_URL"):  # Ollama, vLLM, llama.cpp, …: MODEL=local/<name of the model>
        key = ctx.env.get("OPENAI_API_KEY", "none")
        register_provider("local", api="openai-completions", base_url=base_url, api_key=key)
    pages = directory(DOCS, into="docs")
    return {"model": choose_model(ctx.env), "instructions": INSTRUCTIONS, "sandbox": virtual(files=pages)}


async def ask(ctx: FlueContext, question: str) -> Answer:
    harness = await ctx.init(support)
    session = await harness.session()
    reply = await session.prompt(question, result=Answer)
    return reply.data
