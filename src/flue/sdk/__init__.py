"""The client of a deployed app: its agents, workflows and runs over HTTP, server-sent events and WebSockets.

Nothing is loaded before it is used; HTTP needs no more than Flue itself, WebSockets the extra `sdk`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.sdk.blocking import Client
    from flue.sdk.client import AsyncClient, create_flue_client
    from flue.sdk.connections import SocketTarget
    from flue.sdk.errors import FlueApiError, FlueSocketError, FlueTransportError
    from flue.sdk.events import Event
    from flue.sdk.records import DispatchReceipt, Invocation, RunPage
    from flue.sdk.sockets import AgentSocket, SocketRequest, WorkflowSocket

_MODULES = {
    "AgentSocket": "sockets",
    "AsyncClient": "client",
    "Client": "blocking",
    "DispatchReceipt": "records",
    "Event": "events",
    "FlueApiError": "errors",
    "FlueSocketError": "errors",
    "FlueTransportError": "errors",
    "Invocation": "records",
    "RunPage": "records",
    "SocketRequest": "sockets",
    "SocketTarget": "connections",
    "WorkflowSocket": "sockets",
    "create_flue_client": "client",
}
__all__ = [
    "AgentSocket",
    "AsyncClient",
    "Client",
    "DispatchReceipt",
    "Event",
    "FlueApiError",
    "FlueSocketError",
    "FlueTransportError",
    "Invocation",
    "RunPage",
    "SocketRequest",
    "SocketTarget",
    "WorkflowSocket",
    "create_flue_client",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
