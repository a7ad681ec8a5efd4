"""pydantic-ai: an agent over its Anthropic and OpenAI chat models, streaming."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.usage import UsageLimits

from benchmarks.scenarios import INSTRUCTIONS, KEY, MODEL, NewConversation, Say, Task, lookup


def model(task: Task) -> Any:
    """Return the model for a protocol, pointed at the fake provider."""
    if task.api == "anthropic-messages":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(MODEL, provider=AnthropicProvider(api_key=KEY, base_url=task.url))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    kind = OpenAIChatModel if task.api == "openai-completions" else OpenAIResponsesModel
    return kind(MODEL, provider=OpenAIProvider(api_key=KEY, base_url=f"{task.url}/v1"))


async def take_all(_: Any, events: AsyncIterable[Any]) -> None:
    """Take every event; without a handler pydantic-ai would not stream."""
    async for _event in events:
        pass


@asynccontextmanager
async def conversations(task: Task) -> AsyncIterator[NewConversation]:
    """Open conversations of one agent; pydantic-ai leaves keeping the messages to its user."""
    agent = Agent(model(task), instructions=INSTRUCTIONS, tools=[lookup])

    async def new() -> Say:
        history: list[ModelMessage] = []

        async def say(text: str) -> str:
            nonlocal history
            result = await agent.run(
                text,
                message_history=history,
                event_stream_handler=take_all,
                usage_limits=UsageLimits(request_limit=None),
            )
            history = result.all_messages()
            return result.output

        return say

    yield new
