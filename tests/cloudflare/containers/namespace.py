"""The binding of a class of containers, as the stand-in of the platform has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flue.cloudflare.container.stub import StubError
from tests.cloudflare.containers.control_server import ControlServer
from tests.cloudflare.containers.fake_stub import FakeStub
from tests.cloudflare.standin.streams import ReadableStream
from tests.cloudflare.standin.values import JsException, JsObject, JsProxy, Promise, crossing, to_js, to_python
from tests.cloudflare.standin.values import Object as JsGlobalObject


class Namespace(JsProxy):
    """`env.Sandbox`: every name is a stub of the one container that a test has."""

    js_name = "DurableObjectNamespace"

    def __init__(self, server: ControlServer, *, sessions_only: bool = False) -> None:
        self.stub = FakeStub(server, sessions_only=sessions_only)
        self.names: list[str] = []

    def idFromName(self, name: str) -> str:  # noqa: N802
        return name

    def get(self, id: str) -> Stub:
        self.names.append(id)
        return Stub(self.stub)


class Stub(JsProxy):
    """A stub: it has every method it is asked for, and the other side says which there are."""

    js_name = "DurableObject"

    def __init__(self, stub: FakeStub) -> None:
        self._stub = stub

    def __getattr__(self, method: str) -> Callable[..., Promise]:
        def call(*arguments: Any) -> Promise:
            crossing(arguments)
            return Promise.of(self._called(method, [to_python(argument) for argument in arguments]))

        return call

    async def _called(self, method: str, arguments: list[Any]) -> Any:
        try:
            if method == "execStream":
                return ReadableStream.of(*[piece async for piece in self._stub.stream(method, *arguments)])
            result = await self._stub.call(method, *arguments)
            return to_js(result, dict_converter=JsGlobalObject.fromEntries)
        except StubError as error:
            raised = JsException(error.message, error.name)
            if error.code:
                raised.errorResponse = JsObject({"code": error.code})  # type: ignore[attr-defined]
            raise raised from None
