"""What calls on a session return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from flue.messages import Json, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that answered."""

    provider: str
    id: str

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"provider": self.provider, "id": self.id}

    def __str__(self) -> str:
        return f"{self.provider}/{self.id}"


@dataclass(frozen=True, slots=True)
class PromptResponse:
    """A plain answer. `text` is that of the last message; `usage` covers all requests of the call, retries included."""

    text: str
    usage: Usage
    model: ModelRef
    total_usage: Usage = field(default_factory=Usage, repr=False)
    """`usage` and that of all tasks the call gave to other sessions."""

    @property
    def cost(self) -> float:
        """Return US dollars of `usage`, 0 for models without known prices."""
        return self.usage.cost.total

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"text": self.text, "usage": self.usage.to_json(), "model": self.model.to_json()}


@dataclass(frozen=True, slots=True)
class ResultResponse(Generic[T]):
    """A typed answer. `data` is an instance of what `result=` asked for; `usage` as for a plain answer."""

    data: T
    usage: Usage
    model: ModelRef
    total_usage: Usage = field(default_factory=Usage, repr=False)
    """`usage` and that of all tasks the call gave to other sessions."""
    json: Any = field(default=None, repr=False)
    """`data` as JSON values."""

    @property
    def cost(self) -> float:
        """Return US dollars of `usage`, 0 for models without known prices."""
        return self.usage.cost.total

    def to_json(self) -> Json:
        """Return the wire form; `result` repeats `data` for older clients."""
        return {
            "data": self.json,
            "result": self.json,
            "usage": self.usage.to_json(),
            "model": self.model.to_json(),
        }
