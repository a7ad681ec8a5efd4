"""The limit: httpx2 and json, as one would write it by hand for one provider, with nothing else around it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from benchmarks.scenarios import INSTRUCTIONS, KEY, LOOKUP_SCHEMA, MODEL, NewConversation, Say, Task, lookup

Json = dict[str, Any]
DESCRIPTION = "Look an item up."


@asynccontextmanager
async def conversations(task: Task) -> AsyncIterator[NewConversation]:
    """Open conversations over one pooled client."""
    async with httpx2.AsyncClient(timeout=60) as client:

        async def new() -> Say:
            return PROTOCOLS[task.api](client, task.url)

        yield new


async def events(client: httpx2.AsyncClient, url: str, headers: Json, body: Json) -> AsyncIterator[Json]:
    """Send a request and yield the events of its answer."""
    content = json.dumps(body).encode()
    async with client.stream("POST", url, headers=headers, content=content) as response:
        response.raise_for_status()
        buffer = b""
        async for chunk in response.aiter_raw():
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])


def anthropic(client: httpx2.AsyncClient, url: str) -> Say:
    """Begin a conversation in the Messages protocol."""
    messages: list[Json] = []
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    body = {
        "model": MODEL,
        "max_tokens": 8192,
        "stream": True,
        "system": INSTRUCTIONS,
        "tools": [{"name": "lookup", "description": DESCRIPTION, "input_schema": LOOKUP_SCHEMA}],
        "messages": messages,
    }

    async def answer() -> list[Json]:
        blocks: list[Json] = []
        pieces: list[str] = []
        async for event in events(client, f"{url}/v1/messages", headers, body):
            kind = event["type"]
            if kind == "content_block_delta":
                delta = event["delta"]
                pieces.append(delta["text"] if delta["type"] == "text_delta" else delta["partial_json"])
            elif kind == "content_block_start":
                blocks.append(event["content_block"])
                pieces = []
            elif kind == "content_block_stop":
                if blocks[-1]["type"] == "text":
                    blocks[-1]["text"] = "".join(pieces)
                else:
                    blocks[-1]["input"] = json.loads("".join(pieces))
        return blocks

    async def say(text: str) -> str:
        messages.append({"role": "user", "content": text})
        while True:
            blocks = await answer()
            messages.append({"role": "assistant", "content": blocks})
            results = [
                {"type": "tool_result", "tool_use_id": block["id"], "content": await lookup(**block["input"])}
                for block in blocks
                if block["type"] == "tool_use"
            ]
            if not results:
                return "".join(block["text"] for block in blocks)
            messages.append({"role": "user", "content": results})

    return say


def completions(client: httpx2.AsyncClient, url: str) -> Say:
    """Begin a conversation in the Chat Completions protocol."""
    messages: list[Json] = [{"role": "system", "content": INSTRUCTIONS}]
    function = {"name": "lookup", "description": DESCRIPTION, "parameters": LOOKUP_SCHEMA}
    body = {"model": MODEL, "stream": True, "tools": [{"type": "function", "function": function}], "messages": messages}

    async def answer() -> Json:
        pieces: list[str] = []
        calls: list[Json] = []
        async for event in events(client, f"{url}/v1/chat/completions", _bearer(), body):
            for choice in event["choices"]:
                delta = choice["delta"]
                if piece := delta.get("content"):
                    pieces.append(piece)
                for call in delta.get("tool_calls", ()):
                    if call["index"] == len(calls):
                        calls.append(call)
                    else:
                        calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        message: Json = {"role": "assistant", "content": "".join(pieces)}
        return {**message, "tool_calls": calls} if calls else message

    async def say(text: str) -> str:
        messages.append({"role": "user", "content": text})
        while True:
            message = await answer()
            messages.append(message)
            if "tool_calls" not in message:
                return str(message["content"])
            for call in message["tool_calls"]:
                result = await lookup(**json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    return say


def responses(client: httpx2.AsyncClient, url: str) -> Say:
    """Begin a conversation in the Responses protocol."""
    items: list[Json] = []
    tool = {"type": "function", "name": "lookup", "description": DESCRIPTION, "parameters": LOOKUP_SCHEMA}
    body = {
        "model": MODEL,
        "stream": True,
        "instructions": INSTRUCTIONS,
        "tools": [tool],
        "store": False,
        "input": items,
    }

    async def answer() -> tuple[str, list[Json]]:
        pieces: list[str] = []
        finished: list[Json] = []
        async for event in events(client, f"{url}/v1/responses", _bearer(), body):
            kind = event["type"]
            if kind == "response.output_text.delta":
                pieces.append(event["delta"])
            elif kind == "response.output_item.done":
                finished.append(event["item"])
        return "".join(pieces), finished

    async def say(text: str) -> str:
        items.append({"role": "user", "content": text})
        while True:
            said, finished = await answer()
            items.extend(finished)
            calls = [item for item in finished if item["type"] == "function_call"]
            if not calls:
                return said
            for call in calls:
                result = await lookup(**json.loads(call["arguments"]))
                items.append({"type": "function_call_output", "call_id": call["call_id"], "output": result})

    return say


def _bearer() -> Json:
    return {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


PROTOCOLS: dict[str, Callable[[httpx2.AsyncClient, str], Callable[[str], Awaitable[str]]]] = {
    "anthropic-messages": anthropic,
    "openai-completions": completions,
    "openai-responses": responses,
}
