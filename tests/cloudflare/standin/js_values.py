"""JavaScript values as Pyodide 314 shows them to Python: `null`, errors, arrays, promises.

Seen in npm pyodide 314.0.6 under Node: `null` is `pyodide.ffi.jsnull` and not None (`undefined` is None); an error of
JavaScript's is a `JsException` with `name` and `message`, whose text is "name: message"; `to_py()` makes lists of
arrays, ints of numbers that are whole and below 2^53, and memoryviews of buffers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

SAFE = 2**53 - 1


class JsNull:
    """The type of `jsnull`."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"


jsnull = JsNull()


class JsError(Exception):
    """An error that JavaScript threw, as `pyodide.ffi.JsException` is."""

    def __init__(self, message: str, name: str = "Error") -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class JsArray:
    """A proxy of an array."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Any:
        return self._values[index]

    def to_py(self) -> list[Any]:
        """Return it as a list, arrays and objects in it as well."""
        return [value.to_py() if hasattr(value, "to_py") else value for value in self._values]


class JsObject:
    """A proxy of a plain object: what it holds are attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def to_py(self) -> dict[str, Any]:
        """Return it as a dict."""
        return dict(self._values)


class Promise:
    """A promise that is settled; nobody has to wait for it."""

    def __init__(self, value: Any = None, error: JsError | None = None) -> None:
        self._value = value
        self._error = error

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if self._error is not None:
            raise self._error
        return self._value


def to_js(value: Any) -> Any:
    """Return a Python value as a number, text, boolean or null of JavaScript's; raises for what becomes a BigInt."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        # Seen: 2^53 - 1 itself already becomes a BigInt.
        if abs(value) >= SAFE:
            raise JsError("Cannot convert a BigInt value to a number", "TypeError")
        return float(value)
    return value


def from_js(value: Any) -> Any:
    """Return a number, text, null or buffer of JavaScript's as Python gets it."""
    if value is None:
        return jsnull
    if isinstance(value, bytes):
        return memoryview(value)
    if isinstance(value, int | float):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) <= SAFE else number
    return value
