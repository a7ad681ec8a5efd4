"""`dispatch()` on Cloudflare: work goes to the object of the agent's instance, from wherever it is given."""

from __future__ import annotations

import json
from typing import Any

from flue.cloudflare.asking import ask_object, unreachable
from flue.cloudflare.isolate import Isolate
from flue.durable.failures import idempotency_conflict
from flue.engine.admissions import Admissions
from flue.engine.service import DispatchReceipt
from flue.project.catalog import catalog_of


class Relay:
    """Takes work for agents. See `flue.engine.dispatching.Dispatcher`."""

    def __init__(self, isolate: Isolate) -> None:
        self._isolate = isolate

    async def dispatch(
        self, agent: str, instance: str, input: Any, *, session: str = "default", dispatch_id: str | None = None
    ) -> DispatchReceipt:
        """Have input accepted by the agent's instance; on its disk when this returns.

        Raises as `Service.dispatch`, and `DurabilityError` (`object_unreachable`): then nobody knows whether it was
        accepted, and the same `dispatch_id` may be sent again.
        """
        admissions = Admissions(lambda: catalog_of(self._isolate.served), self._isolate.ids, "")
        admission = admissions.dispatch(agent, instance, input, session=session, dispatch_id=dispatch_id)
        return await self.deliver(agent, instance, json.loads(admission.payload))

    async def start(self, workflow: str, run_id: str, payload: Any, *, key: str | None) -> None:
        """Have a run of a workflow accepted under an id; with a `key`, once. Raises as `deliver`."""
        owned = self._isolate.workflow(workflow)
        if owned is None:
            raise unreachable(workflow, run_id, "nothing is bound to this workflow")
        status, _ = await ask_object(owned, run_id, "start", {"payload": payload, "key": key})
        if status == 409:
            raise idempotency_conflict(f"Idempotency key {key}")
        if status != 200:
            raise unreachable(owned.class_name, run_id, f"it answers with status {status}")

    async def deliver(self, agent: str, instance: str, payload: Any) -> DispatchReceipt:
        """Have the object accept what an admission says: `{"dispatchId", "input", "session"}`."""
        owned = self._isolate.agent(agent)
        if owned is None:
            raise unreachable(agent, instance, "nothing is bound to this agent")
        status, told = await ask_object(owned, instance, "dispatch", payload)
        if status == 409:
            raise idempotency_conflict(f"Dispatch id {payload['dispatchId']}")
        if status != 200:
            raise unreachable(owned.class_name, instance, f"it answers with status {status}")
        return DispatchReceipt(told["dispatchId"], told["acceptedAt"])
