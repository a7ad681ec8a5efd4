"""What an answer costs."""

from __future__ import annotations

from flue.messages import Cost, Usage
from flue.ports import ModelInfo

PER_TOKEN = 1e-6  # prices are per million tokens


def priced_usage(info: ModelInfo, *, input: int, output: int, cache_read: int = 0, cache_write: int = 0) -> Usage:
    """Return the usage with its cost in US dollars at the model's list prices.

    `input` excludes what was read from or written to the provider's cache. Negative counts (a provider whose cached
    count exceeds its total) become 0.
    """
    fresh, written = max(0, input), max(0, output)
    read, stored = max(0, cache_read), max(0, cache_write)
    cost = Cost(
        fresh * info.price_input * PER_TOKEN,
        written * info.price_output * PER_TOKEN,
        read * info.price_cache_read * PER_TOKEN,
        stored * info.price_cache_write * PER_TOKEN,
    )
    return Usage(fresh, written, read, stored, cost)
