"""The modules that only a Worker has, over the stand-in: `js`, `pyodide.ffi` and, as the SDK makes it, `workers`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.cloudflare.standin import streams, timers, values, web
from tests.cloudflare.standin.world import World, wait_until


class Request:
    """The SDK's wrapper of a request."""

    def __init__(self, js_object: web.Request) -> None:
        self.js_object = js_object

    @property
    def url(self) -> str:
        return self.js_object.url

    @property
    def method(self) -> str:
        return self.js_object.method


class Response:
    """The SDK's wrapper of a response."""

    def __init__(self, body: Any = None, status: int = 200, headers: Any = None) -> None:
        if isinstance(body, web.Response):
            self.js_object = body
        else:
            given = values.to_js(body) if isinstance(body, bytes) else body
            self.js_object = web.Response(given, status=status, headers=list((headers or {}).items()))


class BindingWrapper:
    """The SDK's wrapper of a binding or of a storage: what it gives is converted."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding, name)


class EnvWrapper:
    """The SDK's wrapper of an environment."""

    def __init__(self, env: Any) -> None:
        self._env: Any = env._env if isinstance(env, EnvWrapper) else env

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._env, name)
        return BindingWrapper(found) if isinstance(found, values.JsProxy) and found.js_name != "Object" else found


class DurableObjectContext:
    """The SDK's wrapper of an object's `ctx`."""

    def __init__(self, ctx: Any) -> None:
        self._ctx: Any = ctx._ctx if isinstance(ctx, DurableObjectContext) else ctx

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ctx, name)
        return BindingWrapper(found) if getattr(found, "js_name", "") == "DurableObjectStorage" else found


class WorkerEntrypoint:
    """The base of the class that handles events."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = EnvWrapper(env)

    def __init_subclass__(cls, **named: Any) -> None:
        _wrap_init(cls, lambda ctx: ctx)


class DurableObject:
    """The base of the classes of objects."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = DurableObjectContext(ctx)
        self.env = EnvWrapper(env)

    def __init_subclass__(cls, **named: Any) -> None:
        _wrap_init(cls, DurableObjectContext)


class WorkflowEntrypoint:
    """The base of Cloudflare's own workflows."""


def _wrap_init(cls: Any, wrap: Any) -> None:
    original = cls.__dict__.get("__init__")
    if original is None:
        return

    def wrapped(self: Any, ctx: Any, env: Any) -> None:
        original(self, wrap(ctx), EnvWrapper(env))

    cls.__init__ = wrapped


class _Here:
    """The world that the modules belong to now."""

    world: World


@contextmanager
def installed(world: World) -> Iterator[World]:
    """Have `js`, `pyodide` and `workers` in the block. They are the same ones each time: modules keep what they got."""
    before = {name: sys.modules.get(name) for name in _MODULES}
    _Here.world = world
    sys.modules.update(_MODULES)
    try:
        yield world
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _module(name: str, contents: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def _fetch(input: Any, init: Any = None) -> values.Promise:
    request = web.Request(input, init)

    async def answered() -> web.Response:
        response = await _Here.world.internet(request)
        response.headers = response.headers.frozen()
        return response

    task = asyncio.ensure_future(answered())
    request.signal.on_abort.append(task.cancel)
    return values.Promise.of(task)


def _import_from_javascript(name: str) -> Any:
    assert name == "cloudflare:workers"
    return SimpleNamespace(env=_Here.world.env, waitUntil=wait_until)


_FFI = {
    name: getattr(values, name)
    for name in ("JsException", "JsProxy", "create_once_callable", "create_proxy", "destroy_proxies", "jsnull", "to_js")
}
_MODULES = {
    "js": _module(
        "js",
        {
            "AbortController": web.AbortController,
            "Array": values.JsArray,
            "Headers": web.Headers,
            "Object": values.Object,
            "ReadableStream": streams.ReadableStream,
            "Request": web.Request,
            "Response": web.Response,
            "TransformStream": streams.TransformStream,
            "Uint8Array": values.Uint8Array,
            "WebSocketPair": web.WebSocketPair,
            "clearTimeout": timers.clear_timeout,
            "fetch": _fetch,
            "setTimeout": timers.set_timeout,
        },
    ),
    "pyodide": _module("pyodide", {"__path__": []}),
    "pyodide.ffi": _module("pyodide.ffi", _FFI),
    "workers": _module(
        "workers",
        {
            "DurableObject": DurableObject,
            "Request": Request,
            "Response": Response,
            "WorkerEntrypoint": WorkerEntrypoint,
            "WorkflowEntrypoint": WorkflowEntrypoint,
            "import_from_javascript": _import_from_javascript,
            "python_from_rpc": values.to_python,
            "python_to_rpc": lambda value: values.to_js(value, dict_converter=values.Object.fromEntries),
            "wait_until": wait_until,
            "waitUntil": wait_until,
        },
    ),
}
