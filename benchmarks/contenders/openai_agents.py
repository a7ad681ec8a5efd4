"""openai-agents: an agent over Chat Completions or Responses, streaming, without tracing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from benchmarks.scenarios import INSTRUCTIONS, KEY, MODEL, NewConversation, Say, Task, lookup


@asynccontextmanager
async def conversations(task: Task) -> AsyncIterator[NewConversation]:
    """Open conversations of one agent; the input of the next prompt is the last result's."""
    set_tracing_disabled(True)
    client = AsyncOpenAI(api_key=KEY, base_url=f"{task.url}/v1")
    kind = OpenAIChatCompletionsModel if task.api == "openai-completions" else OpenAIResponsesModel
    agent = Agent(
        name="bench",
        instructions=INSTRUCTIONS,
        model=kind(model=MODEL, openai_client=client),
        tools=[function_tool(lookup)],
    )

    async def new() -> Say:
        items: list[Any] = []

        async def say(text: str) -> str:
            nonlocal items
            result = Runner.run_streamed(agent, [*items, {"role": "user", "content": text}], max_turns=10_000)
            async for _event in result.stream_events():
                pass
            items = result.to_input_list()
            return str(result.final_output)

        return say

    yield new
