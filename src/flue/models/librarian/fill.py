"""Filling a JSON Schema from what was found, by type and by the names of the fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flue.models.librarian.question import Question
from flue.models.librarian.ranking import Finding

Schema = Mapping[str, Any]

_LOW_WORDS = (
    "low",
    "none",
    "unknown",
    "unsure",
    "uncertain",
    "unclear",
    "not_found",
    "n/a",
    "no",
    "weak",
    "poor",
    "other",
)
_MIDDLE_WORDS = ("medium", "moderate", "partial", "fair", "maybe", "some")
_HIGH_WORDS = ("high", "certain", "sure", "strong", "good", "full", "yes")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANSWER_NAMES = _names(
    "answer reply response text message summary description explanation report body content result details"
)
_QUOTE_NAMES = _names("quote excerpt citation evidence passage snippet")
_SOURCE_NAMES = _names(
    "source file path filename document doc article location reference url "
    "sources files paths references documents articles"
)
_TITLE_NAMES = _names("title heading section topic subject name")
_CONFIDENCE_NAMES = _names("confidence certainty score probability likelihood")
_FOUND_NAMES = _names("found answered success exists known resolved relevant ok")
_COUNT_NAMES = _names("count matches hits total number")
_LIST_LENGTH = 3


class CannotFillError(Exception):
    """The schema has a field that nothing known can fill honestly."""


@dataclass(frozen=True)
class Material:
    """What there is to fill with: what was found, best first, and the texts to use for an answer."""

    question: Question
    findings: tuple[Finding, ...]
    answer: str
    echo: str = ""

    @property
    def best(self) -> Finding | None:
        """Return the best finding."""
        return self.findings[0] if self.findings else None

    @property
    def confidence(self) -> float:
        """Return how sure the rules are, 0 to 1."""
        return min(self.best.coverage, 1.0) if self.best else 0.0

    def only(self, finding: Finding) -> Material:
        """Return the same material with one finding, for an item of a list."""
        return Material(self.question, (finding,), finding.quote)


def fill(schema: Schema, material: Material) -> Any:
    """Return a value that fits the JSON Schema. Raises `CannotFillError` naming the field otherwise."""
    return _Filler(schema, material).value(schema, "result")


def confidence_word(confidence: float) -> str:
    """Return low, medium or high."""
    return "high" if confidence >= 0.8 else "medium" if confidence >= 0.5 else "low"


def _words(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").split("_"))


class _Filler:
    def __init__(self, root: Schema, material: Material) -> None:
        self.root = root
        self.material = material

    def value(self, schema: Schema, name: str) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(list(schema["enum"]), schema, name)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._first_of(schema[union], schema, name)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._first_of([{**schema, "type": entry} for entry in kind], schema, name)
        match kind or ("object" if "properties" in schema else "string"):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name)
            case "boolean":
                return bool(_words(name) & _FOUND_NAMES) and bool(self.material.findings)
            case "integer" | "number" as number:
                return self._number(schema, name, whole=number == "integer")
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            target: Any = self.root
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                target = target[part]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        for part in schema.get("allOf", ()):
            schema = {**self._resolved(part), **{key: value for key, value in schema.items() if key != "allOf"}}
        return schema

    def _first_of(self, options: list[Schema], outer: Schema, name: str) -> Any:
        resolved = [self._resolved(option) for option in options]
        constants = [option["const"] for option in resolved if "const" in option]
        if len(constants) == len(resolved):
            return self._choice(constants, outer, name)
        null_allowed = any(option.get("type") == "null" for option in resolved)
        if null_allowed and not self.material.findings and not self.material.echo:
            return None
        for option in resolved:
            if option.get("type") != "null":
                try:
                    return self.value({**option, "$defs": {}}, name)
                except CannotFillError:
                    continue
        if null_allowed:
            return None
        raise CannotFillError(name)

    def _object(self, schema: Schema) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        filled: dict[str, Any] = {}
        for name, field in schema.get("properties", {}).items():
            try:
                filled[name] = self.value(field, name)
            except CannotFillError:
                if name in required:
                    raise
        return filled

    def _array(self, schema: Schema, name: str) -> list[Any]:
        items = schema.get("items", {})
        most = min(int(schema.get("maxItems", _LIST_LENGTH)), _LIST_LENGTH)
        if self._resolved(items).get("type") == "string" and "enum" not in self._resolved(items):
            values: list[Any] = self._strings(name)
        else:
            parts = (self.material.only(finding) for finding in self.material.findings[:most])
            values = [_Filler(self.root, part).value(items, name) for part in parts]
        values = list(dict.fromkeys(values)) if all(isinstance(value, str) for value in values) else values
        if len(values) < int(schema.get("minItems", 0)):
            raise CannotFillError(name)
        return values[: max(most, int(schema.get("minItems", 0)))]

    def _strings(self, name: str) -> list[str]:
        words = _words(name)
        if words & _SOURCE_NAMES:
            return [finding.path for finding in self.material.findings]
        if words & {"keywords", "tags", "keyword", "terms"}:
            return [keyword.word for keyword in self.material.question.keywords]
        if words & {"titles", "headings", "topics", "sections"}:
            return [finding.heading for finding in self.material.findings]
        if not self.material.findings and self.material.echo:
            return [self.material.echo]
        return [finding.quote for finding in self.material.findings]

    def _choice(self, values: list[Any], schema: Schema, name: str) -> Any:
        by_word = {str(value).lower(): value for value in values}
        if _words(name) & _CONFIDENCE_NAMES or {"low", "high"} <= by_word.keys():
            scale = {"low": _LOW_WORDS, "medium": _MIDDLE_WORDS + _LOW_WORDS, "high": _HIGH_WORDS + _MIDDLE_WORDS}
            wanted = scale[confidence_word(self.material.confidence)]
        else:
            wanted = tuple(value for value in by_word if self._mentions(value)) + _LOW_WORDS
        for word in wanted:
            if word in by_word:
                return by_word[word]
        if schema.get("default") in values:
            return schema["default"]
        if None in values:
            return None
        raise CannotFillError(name)

    def _mentions(self, value: str) -> bool:
        best = self.material.best
        text = f"{self.material.question.text} {best.quote if best else ''}"
        return bool(re.search(rf"\b{re.escape(value)}", text, re.IGNORECASE))

    def _number(self, schema: Schema, name: str, *, whole: bool) -> int | float:
        words = _words(name)
        best = self.material.best
        number: float
        if words & _CONFIDENCE_NAMES:
            number = self.material.confidence * (100 if schema.get("maximum", 1) == 100 else 1)
        elif words & {"line", "lineno"} and best:
            number = best.line
        elif words & _COUNT_NAMES:
            number = len(self.material.findings)
        elif best and (found := re.search(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)", best.quote)):
            number = float(found.group())
        elif isinstance(schema.get("default"), int | float):
            number = schema["default"]
        else:
            raise CannotFillError(name)
        if not schema.get("minimum", number) <= number <= schema.get("maximum", number):
            raise CannotFillError(name)
        return round(number) if whole else round(number, 2)

    def _string(self, schema: Schema, name: str) -> str:
        text = self._text_for(_words(name))
        limit = schema.get("maxLength")
        if isinstance(limit, int) and len(text) > limit:
            text = text[: max(limit - 1, 0)] + "…"
        pattern = schema.get("pattern")
        unfit = len(text) < int(schema.get("minLength", 0)) or (pattern and not re.search(str(pattern), text))
        if unfit or schema.get("format") is not None:
            raise CannotFillError(name)
        return text

    def _text_for(self, words: set[str]) -> str:
        best = self.material.best
        if words & _CONFIDENCE_NAMES:
            return confidence_word(self.material.confidence)
        if words & {"question", "query"}:
            return self.material.question.text
        if words & _SOURCE_NAMES:
            return best.path if best else ""
        if words & _QUOTE_NAMES:
            return best.quote if best else ""
        if words & _ANSWER_NAMES:
            return self.material.answer
        if words & _TITLE_NAMES and best:
            return best.heading
        if best:
            return best.quote
        return self.material.echo or self.material.answer
