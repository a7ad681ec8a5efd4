"""What the fake model answers in snippets: the replies that the page gives, else something that fits."""

from __future__ import annotations

from collections import deque
from typing import Any

from flue.messages import Json
from flue.testing.provider.directives import Plan
from flue.testing.provider.reply import Reply, call, reply
from flue.testing.provider_server import ProviderRequest

TEXT = "This is what the model would say."


class SampleAnswers:
    """Answers requests in the format anthropic-messages."""

    def __init__(self) -> None:
        self._queue: deque[Reply] = deque()

    def enqueue(self, directives: str) -> None:
        """Add the replies that a page asks for, one for each round."""
        plan = Plan.read(directives)
        rounds = [found.reply for found in plan.rounds]
        self._queue.extend([reply(plan.rest)] if rounds == [Reply()] else rounds)

    def clear(self) -> int:
        """Forget the replies that are left and return how many there were."""
        left = len(self._queue)
        self._queue.clear()
        return left

    def __call__(self, request: ProviderRequest) -> Reply:
        """Answer a request."""
        if self._queue:
            return self._queue.popleft()
        tools: list[Json] = request.json.get("tools", [])
        for tool in tools:
            if tool["name"] == "finish":
                return reply(calls=[call("finish", example_of(tool["input_schema"]))])
        return reply(TEXT)


def example_of(schema: Json, root: Json | None = None) -> Any:
    """Return a small value that fits a JSON Schema of the kind that Pydantic writes."""
    root = root or schema
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return example_of(target, root)
    for choice in ("const", "default"):
        if choice in schema:
            return schema[choice]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return example_of(schema[union][0], root)
    match schema.get("type"):
        case "object":
            properties: Json = schema.get("properties", {})
            required: list[str] = schema.get("required", list(properties))
            return {name: example_of(properties[name], root) for name in required}
        case "array":
            return [example_of(schema["items"], root)] * max(1, schema.get("minItems", 1)) if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "text".ljust(schema.get("minLength", 0), ".")
