"""One Durable Object: an instance of an agent, or the runs of a workflow that restarted each other.

Its engine works on its own storage. The Worker has asked the middleware of modules before it forwards a request, so
here every route is open: who reaches an object has passed, or belongs to the project.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from flue.cloudflare.asking import ASK, BODY_LIMIT, HEADERS, ROOT_PATH, json_answer, name_in
from flue.cloudflare.container.sandbox import adapt_stub
from flue.cloudflare.context import CloudflareContext, DurableObjectIdentity, Environment, using_cloudflare
from flue.cloudflare.identity import Name
from flue.cloudflare.isolate import Isolate
from flue.cloudflare.names import DurableClass
from flue.cloudflare.platform import js_bindings
from flue.cloudflare.platform.asgi import answer, scope_of
from flue.cloudflare.platform.js_classes import State
from flue.cloudflare.platform.js_http import Native, Request
from flue.cloudflare.platform.js_sockets import HibernatingSocket
from flue.cloudflare.registry.telling import Telling
from flue.cloudflare.relay import Relay
from flue.cloudflare.sockets import Machine, Sockets
from flue.engine.dispatching import Dispatcher
from flue.engine.engine import EngineSettings
from flue.engine.service import Service
from flue.errors import DurabilityError
from flue.host import open_service
from flue.registrations import Registrations
from flue.server.app import FlueApp
from flue.server.application import Application
from flue.server.body import DEFAULT_LIMIT
from flue.server.served import Served
from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.connection import Start, start_of
from flue.server.sockets.workflow import WorkflowSocket

logger = logging.getLogger("flue")
SETTINGS = EngineSettings(log_failures=True, schedules=False, hibernates=True, concurrency=64)
_HIDDEN = frozenset(name.encode() for name in HEADERS)
# How long an object that cannot begin to work waits before it tries again, in milliseconds.
_TRY_AGAIN = 60_000


class FlueObject:
    """An object while it lives; see `ObjectHandlers` for when its methods are called."""

    def __init__(self, isolate: Isolate, owned: DurableClass, state: State, env: Environment) -> None:
        self.isolate = isolate
        self.owned = owned
        self.env = env
        self.name = Name(state)
        self._state = state
        self._store = isolate.store(state)
        self._telling = Telling(self._store, isolate.clock, self.name)
        self._application = _ObjectApplication(self)
        self._apps: dict[int, FlueApp] = {}
        self._sockets = Sockets(
            self._application.service,
            clock=isolate.clock,
            ids=isolate.ids,
            admits=self._admits,
            local=self._application.local,
        )

    # ------------------------------------------------------------------------------------------------- events

    async def fetch(self, request: Request) -> Native:
        """Answer a request that the Worker forwards, or what another part of the project asks."""
        self.name.learn(name_in(request))
        with self.here():
            if request.header(ASK) in ("dispatch", "start"):
                return await self._asked(request.header(ASK), await request.json())
            if request.is_upgrade:
                return await self._accept()
            return await self._forwarded(request)

    async def alarm(self) -> None:
        """Go on with what an isolate before this one left, and look for what is due."""
        with self.here():
            try:
                service = await self._application.service()
                await self._store.rearm()
                service.engine.look()
                await self._telling.tell()
            except Exception:
                # Raising would have the platform call again a few times, and then give up.
                logger.exception("The alarm of %s %r failed.", self.owned.class_name, str(self.name))
                self._store.ring_at(self.isolate.clock.now_ms() + _TRY_AGAIN)

    async def socket_message(self, socket: HibernatingSocket, message: str | bytes) -> None:
        """Take a message from a socket."""
        with self.here():
            await self._sockets.message(socket, message)

    async def socket_closed(self, socket: HibernatingSocket, code: int, reason: str) -> None:
        """Take note that a client closed its socket."""
        with self.here():
            await self._sockets.closed(socket, code, reason)

    async def socket_failed(self, socket: HibernatingSocket) -> None:
        """Take note that the connection of a socket failed."""
        with self.here():
            await self._sockets.failed(socket)

    # ----------------------------------------------------------------------------------------------- requests

    async def _forwarded(self, request: Request) -> Native:
        limit = int(request.header(BODY_LIMIT) or DEFAULT_LIMIT)
        if limit not in self._apps:
            self._apps[limit] = FlueApp(self._application, body_limit=limit)
        scope = scope_of(request, "http", root_path=unquote(request.header(ROOT_PATH)))
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _HIDDEN]
        return await answer(self._apps[limit], request, scope)

    async def _accept(self) -> Native:
        """Accept a WebSocket; its client is greeted once it has the answer to its handshake."""
        socket, answered = self._state.accept()
        name = self.owned.name
        machine = AgentSocket(name, str(self.name)) if self.owned.kind == "agent" else WorkflowSocket(name)
        await self._sockets.open(socket, machine)
        return answered

    def _admits(self, machine: Machine, service: Service) -> Start:
        return start_of(machine, service, path=f"/workflows/{machine.name}", run_id=self._application.run_id)

    async def _asked(self, what: str, body: Any) -> Native:
        """Accept work that the project gives itself."""
        service = await self._application.service()
        target, name = self.owned.name, str(self.name)
        try:
            if what == "start":
                ticket = await service.start_workflow(target, body["payload"], key=body["key"], run_id=name)
                return json_answer({"runId": ticket.id})
            receipt = await service.dispatch(
                target, name, body["input"], session=body["session"], dispatch_id=body["dispatchId"]
            )
            return json_answer({"dispatchId": receipt.dispatch_id, "acceptedAt": receipt.accepted_at})
        except DurabilityError as error:
            return json_answer({"message": error.message}, 409 if error.code == "idempotency_conflict" else 503)

    # ------------------------------------------------------------------------------------------------- engine

    @asynccontextmanager
    async def opened(self, application: Application) -> AsyncIterator[Service]:
        """Start the engine; it ends with the object's life."""
        platform, served = self.isolate.platform, self.isolate.served
        with self.here():
            async with open_service(
                application.catalog,
                store=self._store,
                env=self.env,
                roles=served.roles.values(),
                registrations=served.registrations,
                models=platform.models(),
                sandbox=None if platform.sandbox is None else platform.sandbox(),
                adapt_sandbox=adapt_stub,
                clock=self.isolate.clock,
                ids=self.isolate.ids,
                settings=replace(SETTINGS, keep=served.keep),
                log=served.log,
                announced=False,
                runs_changed=self._telling.tell,
            ) as service:
                await service.start()
                await self._sockets.resume(self._state.sockets())
                yield service

    def here(self) -> AbstractContextManager[None]:
        """Give a block the platform as code of this object sees it."""
        identity = DurableObjectIdentity(self.owned.binding, self.owned.class_name, str(self.name), self._state.id)
        return using_cloudflare(
            CloudflareContext(
                self.env,
                js_bindings.wait_until,
                storage=self._state.ctx.storage,
                durable_object_identity=identity,
                agent_instance=self,
            )
        )


class _ObjectApplication(Application):
    """What an object serves: the project, with every route open, by the object's own engine."""

    def __init__(self, owner: FlueObject) -> None:
        isolate = owner.isolate
        super().__init__(
            lambda: _open(isolate.served), opening=owner.opened, env=owner.env, clock=isolate.clock, ids=isolate.ids
        )
        self._owner = owner

    @property
    def registrations(self) -> Registrations:
        """Return the project's registrations."""
        return self._owner.isolate.served.registrations

    @property
    def run_id(self) -> str | None:
        """Return the id of the first run of a workflow's object: it is the object's name."""
        return str(self._owner.name) if self._owner.owned.kind == "workflow" else None

    async def dispatcher(self) -> Dispatcher:
        """Return the way to the agents' objects: which of them somebody's code runs in makes no difference."""
        return Relay(self._owner.isolate)


def _open(served: Served) -> Served:
    """Return what is served with nothing hidden and without middleware."""
    agents = {name: replace(module, route=True, websocket=True) for name, module in served.agents.items()}
    workflows = {name: replace(module, route=True, websocket=True) for name, module in served.workflows.items()}
    return replace(served, agents=agents, workflows=workflows)
