"""JavaScript values as Python sees them under Pyodide, as far as Workers code meets them.

What crosses to JavaScript by a call must be of a kind that crosses well: a `dict` or `bytes` that was not converted by
`to_js` would arrive as a proxy of a Python object, which no Web API understands; here it raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from tests.cloudflare.standin import js_values
from tests.cloudflare.standin.owners import on_behalf, running_for

JsException = js_values.JsError
jsnull = js_values.jsnull


def type_error(message: str) -> JsException:
    return JsException(message, "TypeError")


class JsProxy:
    """A JavaScript object."""

    js_name = "Object"

    @property
    def constructor(self) -> Any:
        return SimpleNamespace(name=self.js_name)

    @classmethod
    def new(cls, *arguments: Any, **init: Any) -> Any:
        crossing(arguments)
        crossing(init.values())
        return cls(*arguments, **init)

    def to_py(self, **_: Any) -> Any:
        return self


class PyProxy:
    """A Python object that was given to JavaScript for good."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.destroyed = False

    def __call__(self, *arguments: Any) -> Any:
        if self.destroyed:
            raise JsException("Object has already been destroyed")
        return self.value(*arguments)

    def __await__(self) -> Any:
        return self.value.__await__()

    def destroy(self) -> None:
        self.destroyed = True


class JsObject(JsProxy):
    """A plain object."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        vars(self).update(values or {})

    def to_py(self, **_: Any) -> Any:
        return {key: to_python(value) for key, value in vars(self).items()}


class JsArray(js_values.JsArray, JsProxy):
    """An array."""

    js_name = "Array"

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(list(items))

    def to_py(self, **_: Any) -> Any:
        return [to_python(item) for item in self]


class JsMap(JsProxy):
    """What a dict becomes when nobody says otherwise."""

    js_name = "Map"

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values


class Uint8Array(JsProxy):
    """Bytes; `to_py` gives a memoryview."""

    js_name = "Uint8Array"

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytes(data)

    @property
    def byteLength(self) -> int:  # noqa: N802
        return len(self.data)

    length = byteLength

    def to_bytes(self) -> bytes:
        return self.data

    def to_py(self, **_: Any) -> Any:
        return memoryview(self.data)


class ArrayBuffer(Uint8Array):
    """What sockets and bodies give."""

    js_name = "ArrayBuffer"


class Promise(JsProxy):
    """A promise; awaiting it raises what it was rejected with."""

    js_name = "Promise"

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(_heard)

    def __await__(self) -> Any:
        return on_behalf(asyncio.shield(self.future)).__await__()

    def then(self, resolved: Callable[[Any], Any], rejected: Callable[[Any], Any] | None = None) -> None:
        def settle(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            if error is None:
                resolved(future.result())
            elif rejected is not None:
                rejected(error)

        self.future.add_done_callback(settle)

    def resolve(self, value: Any = None) -> None:
        with running_for(None):
            if not self.future.done():
                self.future.set_result(value)

    def reject(self, error: BaseException) -> None:
        with running_for(None):
            if not self.future.done():
                self.future.set_exception(error)

    @classmethod
    def of(cls, work: Any) -> Promise:
        """Return the promise of an awaitable, which runs whoever waits."""
        promise = cls()

        def done(task: asyncio.Future[Any]) -> None:
            if task.cancelled():
                promise.reject(JsException("The execution context was destroyed.", "Error"))
            elif (error := task.exception()) is not None:
                promise.reject(error if isinstance(error, JsException) else JsException(str(error), "PythonError"))
            else:
                promise.resolve(task.result())

        asyncio.ensure_future(work).add_done_callback(done)
        return promise


def _heard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class Object:
    """The global `Object`."""

    @staticmethod
    def fromEntries(entries: Iterable[Any]) -> JsObject:  # noqa: N802
        return JsObject({key: value for key, value in entries})  # noqa: C416 - pairs of any kind

    @staticmethod
    def keys(value: JsProxy) -> JsArray:
        return JsArray(key for key in vars(value) if not key.startswith("_"))


def crossing(values: Iterable[Any]) -> None:
    """Refuse what does not cross to JavaScript as a value of its own."""
    for value in values:
        if isinstance(value, bytes | bytearray | memoryview | dict | set):
            raise AssertionError(  # noqa: TRY004 - no error that anything should handle
                f"to_js is missing: {value!r} arrives as a proxy of a Python object"
            )


def to_js(value: Any, *, dict_converter: Any = None, **_: Any) -> Any:
    """Convert a Python value, deeply."""
    if isinstance(value, bytes | bytearray | memoryview):
        return Uint8Array(bytes(value))
    if isinstance(value, list | tuple):
        return JsArray(to_js(item, dict_converter=dict_converter) for item in value)
    if isinstance(value, dict):
        converted = {key: to_js(item, dict_converter=dict_converter) for key, item in value.items()}
        return JsMap(converted) if dict_converter is None else dict_converter(converted.items())
    return value


def to_python(value: Any) -> Any:
    """Convert a JavaScript value, deeply; `jsnull` stays, as in Pyodide 314.0.6."""
    return value.to_py() if isinstance(value, JsProxy) else value


def create_proxy(value: Any) -> PyProxy:
    return PyProxy(value)


def create_once_callable(value: Any) -> PyProxy:
    return PyProxy(value)


def destroy_proxies(proxies: Iterable[PyProxy]) -> None:
    for proxy in proxies:
        proxy.destroy()
