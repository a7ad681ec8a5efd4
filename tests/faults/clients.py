"""Clients of a server that dies again and again. Each asks for something, sees it through, and asks for the next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from flue.sse import EventParser
from tests.faults.ledger import Ask, Ledger
from tests.faults.office import TOKEN

PLANS = ("", "w", "ww", "w,w", "ww,w", "www,w,w", "r", "wr,w", "lr", "p", "w,p")
INSTANCES = tuple(f"i{number}" for number in range(4))
JSON = {"content-type": "application/json"}
SSE = {"accept": "text/event-stream"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
GONE = (httpx2.TransportError, WebSocketException, OSError, EOFError, TimeoutError)
Event = tuple[str, str, str]
# Longer than a server is away; only a request that hangs for ever is given up, and noticed.
WAIT = 60.0
PAUSE = 0.02
ENDED = ("completed", "failed", "aborted")
# Those that do not wait for what they asked for ask less often, or they would fill the sessions of those that do.
LEISURE = 0.4


class Clients:
    """Clients of the office at an address. Chances come from the seed, so that each does the same again."""

    def __init__(self, address: str, ledger: Ledger, seed: str) -> None:
        self._address = address
        self.ledger = ledger
        self._seed = seed
        self._stopping = asyncio.Event()
        self._followers: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, each: int) -> None:
        """Start so many of every kind, and followers of two instances."""
        kinds = (self._asker, self._streamer, self._socket, self._dispatcher, self._runner)
        for number in range(each):
            for kind in kinds:
                self._tasks.append(asyncio.create_task(self._live(kind, number), name=f"{kind.__name__}{number}"))
        for instance in INSTANCES[:2]:
            self._followers.append(asyncio.create_task(self._watch("clerk", instance)))

    def stop(self) -> None:
        """Let all see through what they asked for, and ask for nothing else."""
        self._stopping.set()

    async def finish(self, patience: float) -> list[str]:
        """Wait for those that were told to stop; return the names of those that could not within so many seconds."""
        _, stuck = await asyncio.wait(self._tasks, timeout=patience)
        for task in (*stuck, *self._followers):
            task.cancel()
        await asyncio.gather(*stuck, *self._followers, return_exceptions=True)
        for task in self._tasks:
            if task not in stuck:
                task.result()
        return [task.get_name() for task in stuck]

    def check(self) -> None:
        """Raise what a client fails with."""
        for task in (*self._tasks, *self._followers):
            if task.done() and not task.cancelled():
                task.result()

    async def _live(self, kind: Callable[[Client], Awaitable[None]], number: int) -> None:
        name = f"{kind.__name__.strip('_')}{number}"
        async with self._client(name) as client:
            while not self._stopping.is_set():
                await kind(client)

    @contextlib.asynccontextmanager
    async def _client(self, name: str) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(base_url=f"http://{self._address}", timeout=httpx2.Timeout(WAIT)) as http:
            yield Client(name, http, self._address, self.ledger, random.Random(f"{self._seed} {name}"))  # noqa: S311

    # ---------------------------------------------------------------------------------------------- kinds

    async def _asker(self, client: Client) -> None:
        """Ask and wait for the answer; ask again with the same key when the connection breaks."""
        ask = client.new("prompt", client.pick("clerk", "clerk", "fragile"), client.pick(*INSTANCES))
        await client.prompt(ask)

    async def _streamer(self, client: Client) -> None:
        """Ask and follow the events; resume after the last one when the connection breaks."""
        ask = client.new("prompt", "clerk", client.pick(*INSTANCES))
        await client.stream_prompt(ask, abort=client.chance(0.1))

    async def _socket(self, client: Client) -> None:
        """Ask for several things at once on a socket."""
        await client.socket("clerk", client.pick(*INSTANCES), client.pick(1, 2, 3))
        await asyncio.sleep(LEISURE)

    async def _dispatcher(self, client: Client) -> None:
        """Dispatch some work to one session, without waiting for it."""
        instance, before = client.pick(*INSTANCES), None
        for _ in range(client.pick(1, 2, 3)):
            ask = client.new("dispatch", "clerk", instance, session="post", plans=("", "w", "ww,w"))
            ask.after = before
            await client.dispatch(ask)
            before = ask
        await asyncio.sleep(LEISURE)

    async def _runner(self, client: Client) -> None:
        """Start a run and see it through, over all runs that replace it."""
        kind = client.pick("steps", "steps", "order", "once", "reporter")
        await client.run(client.new("run", kind, client.pick(*INSTANCES) if kind == "reporter" else ""))

    async def _watch(self, agent: str, instance: str) -> None:
        """Follow an instance for ever, resuming after the last event."""
        async with self._client(f"watch-{instance}") as client:
            parts = self.ledger.streams.setdefault((agent, instance), [])
            last = ""
            while True:
                parts.append([])
                headers = {"last-event-id": last} if last else {}
                with contextlib.suppress(*GONE):
                    async for id, kind, data in client.events("GET", f"/agents/{agent}/{instance}/stream", headers):
                        parts[-1].append((id, kind, data))
                        last = id or last
                await asyncio.sleep(PAUSE)


class Client:
    """One client."""

    def __init__(
        self, name: str, http: httpx2.AsyncClient, address: str, ledger: Ledger, chances: random.Random
    ) -> None:
        self._name = name
        self._http = http
        self._address = address
        self._ledger = ledger
        self._chances = chances
        self._count = 0
        self._orders: dict[str, str] = {}

    def pick(self, *options: Any) -> Any:
        """Return one of several."""
        return self._chances.choice(options)

    def chance(self, share: float) -> bool:
        """Say yes so often."""
        return self._chances.random() < share

    def new(
        self, kind: Any, target: str, instance: str, *, session: str = "default", plans: tuple[str, ...] = PLANS
    ) -> Ask:
        """Return something new to ask for."""
        self._count += 1
        token = f"{self._name}-{self._count}"
        self._orders[token] = f"[[{token} plan={self.pick(*plans)} words={self._chances.randrange(20)}]]"
        return self._ledger.ask(Ask(token, kind, target, instance, session))

    # -------------------------------------------------------------------------------------------- prompts

    async def prompt(self, ask: Ask) -> None:
        """Ask until there is an answer."""
        path, body = f"/agents/{ask.target}/{ask.instance}", self._message(ask)
        answer = await self._sure("POST", path, body, {"idempotency-key": ask.token})
        self._accepted(ask, answer.headers["x-flue-submission-id"])
        if answer.status_code == 202:
            await self.rest(ask)
        else:
            assert answer.status_code in (200, 409, 500), answer.text
            ask.ended = {200: "completed", 409: "aborted", 500: "failed"}[answer.status_code]
            ask.result = answer.json().get("result")

    async def stream_prompt(self, ask: Ask, *, abort: bool) -> None:
        """Ask and follow the events to the end."""
        path, body = f"/agents/{ask.target}/{ask.instance}", self._message(ask)
        over = False
        while not ask.to_the_end:
            ask.connections += 1
            try:
                if not ask.ids:
                    ask.seen.clear()
                    headers = {**SSE, **JSON, "idempotency-key": ask.token}
                    events = self.events("POST", path, headers, body, lambda told: self._told(ask, told))
                else:
                    after = {"last-event-id": str(ask.seen[-1][0])} if ask.seen else {}
                    events = self.events("GET", f"{path}/submissions/{self._id(ask)}/stream", after)
                async for id, kind, data in events:
                    if kind == "error":
                        continue  # told about the end, and no event of the log
                    ask.seen.append((int(id), kind, data))
                    if kind == "approval_request":
                        await self._decide(ask, json.loads(data)["toolCallId"])
                    elif abort and len(ask.seen) > 12:
                        abort = False
                        await self._sure("POST", f"{path}/submissions/{self._id(ask)}/abort", {"reason": "enough"})
                # A server that is told to end ends its streams, too: what was over before has been read to its end.
                ask.to_the_end, over = over, await self._has_ended(ask)
            except GONE:
                self._ledger.lost += 1
                await asyncio.sleep(PAUSE)
        await self.rest(ask)

    async def _has_ended(self, ask: Ask) -> bool:
        path = f"/agents/{ask.target}/{ask.instance}/submissions/{self._id(ask)}"
        record = (await self._sure("GET", path)).json()
        return record["status"] in ENDED

    async def rest(self, ask: Ask) -> None:
        """Wait until a prompt has ended, deciding on what waits for a person."""
        path = f"/agents/{ask.target}/{ask.instance}/submissions/{self._id(ask)}"
        while True:
            record = (await self._sure("GET", path)).json()
            if record["status"] in ENDED:
                ask.ended, ask.result = record["status"], record.get("result")
                return
            for call_id in (record.get("waitingFor") or {}).get("toolCallIds", ()):
                await self._decide(ask, call_id)
            await asyncio.sleep(PAUSE)

    async def _decide(self, ask: Ask, call_id: str) -> None:
        if call_id in self._ledger.denied | self._ledger.approved:
            return
        approved = self.chance(0.7)
        (self._ledger.approved if approved else self._ledger.denied).add(call_id)
        path = f"/agents/{ask.target}/{ask.instance}/approvals/{call_id}"
        answer = await self._sure("POST", path, {"approved": approved, "session": ask.session})
        # Not found: taken before the connection broke, or the prompt was given up.
        assert answer.status_code in (202, 404), answer.text

    # -------------------------------------------------------------------------------------------- sockets

    async def socket(self, agent: str, instance: str, count: int) -> None:
        """Ask for several things in a row on one socket, and read until all are answered or the socket breaks."""
        asks: dict[str, Ask] = {}
        try:
            async with connect(f"ws://{self._address}/agents/{agent}/{instance}", open_timeout=WAIT) as ws:
                for _ in range(count):
                    ask = self.new("prompt", agent, instance, session="socket", plans=("", "w", "ww", "w,w"))
                    ask.keyed = False
                    asks[ask.token] = ask
                    message = {"version": 1, "type": "prompt", "requestId": ask.token, **self._message(ask)}
                    await ws.send(json.dumps(message))
                open_asks = set(asks)
                while open_asks:
                    frame = json.loads(await asyncio.wait_for(ws.recv(), WAIT))
                    if frame["type"] == "ready":
                        continue
                    ask = asks[frame["requestId"]]
                    match frame["type"]:
                        case "started":
                            ask.accepted = True
                            started = [other for other in asks.values() if other.accepted and other is not ask]
                            ask.after = started[-1] if started else None
                        case "event":
                            self._ledger.moments += 1
                            event = frame["event"]
                            ask.seen.append((event["eventIndex"], event["type"], json.dumps(event)))
                        case "result":
                            ask.ended, ask.result = "completed", frame["result"]
                            open_asks.discard(ask.token)
                        case "error":
                            ask.ended = "failed"
                            open_asks.discard(ask.token)
        except GONE:
            self._ledger.lost += 1

    # ----------------------------------------------------------------------------------- dispatches, runs

    async def dispatch(self, ask: Ask) -> None:
        """Dispatch until there is a receipt."""
        body = {"input": {"order": self._orders[ask.token]}, "dispatchId": ask.token, "session": ask.session}
        path = f"/agents/{ask.target}/{ask.instance}/dispatch"
        receipts = []
        for _ in range(self.pick(1, 1, 2)):
            answer = await self._sure("POST", path, body, BEARER)
            assert answer.status_code == 202, answer.text
            receipts.append(answer.json())
        ask.accepted = True
        assert receipts[0] == receipts[-1], receipts

    async def run(self, ask: Ask) -> None:
        """Start a run and follow it, and its replacements, to the end."""
        payload = {"token": ask.token, "steps": self.pick(1, 2, 3)}
        place = f"/agents/{ask.target}/{ask.instance}" if ask.instance else f"/workflows/{ask.target}"
        webhook = {"x-webhook": "true"} if ask.instance else {}
        answer = await self._sure("POST", place, payload, {"idempotency-key": ask.token, **webhook})
        assert answer.status_code == 202, answer.text
        self._accepted(ask, answer.headers["x-flue-run-id"])
        id: str | None = self._id(ask)
        while id is not None:
            id = await self._follow_run(ask, id)

    async def _follow_run(self, ask: Ask, run_id: str) -> str | None:
        paid, first = ask.target != "order", run_id == self._id(ask)
        while True:
            record = (await self._sure("GET", f"/runs/{run_id}")).json()
            if record["status"] != "active":
                break
            if not paid:
                # To whichever run of the chain, under the same id: it is taken once.
                answer = await self._sure("POST", f"/runs/{run_id}/events/paid", 5, {"idempotency-key": ask.token})
                paid = answer.status_code == 202
            with contextlib.suppress(*GONE):
                after = {"last-event-id": str(ask.seen[-1][0])} if ask.seen and first else {}
                async for id, kind, data in self.events("GET", f"/runs/{run_id}/stream", after):
                    if first:
                        ask.seen.append((int(id), kind, data))
                        ask.to_the_end = kind == "run_end"
                continue
            self._ledger.lost += 1
            await asyncio.sleep(PAUSE)
        ask.ended, ask.result = record["status"], record.get("result")
        replacement: str | None = record.get("restartedAsRunId")
        return replacement

    # ----------------------------------------------------------------------------------------------- wire

    async def _sure(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Ask until a server has answered, also when one is about to end."""
        content = None if body is None else json.dumps(body).encode()
        while True:
            try:
                answer = await self._http.request(method, path, content=content, headers={**JSON, **(headers or {})})
            except GONE:
                self._ledger.lost += 1
            else:
                self._ledger.moments += 1
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(PAUSE)

    async def events(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: Any = None,
        told: Callable[[httpx2.Response], None] | None = None,
    ) -> AsyncIterator[Event]:
        """Yield server-sent events, see `events_of`."""
        async for event in events_of(self._http, method, path, headers, body, told):
            self._ledger.moments += 1
            yield event

    def _message(self, ask: Ask) -> dict[str, str]:
        return {"message": self._orders[ask.token], "session": ask.session}

    def _told(self, ask: Ask, response: httpx2.Response) -> None:
        self._accepted(ask, response.headers["x-flue-submission-id"])

    def _accepted(self, ask: Ask, id: str) -> None:
        ask.accepted = True
        ask.ids.add(id)

    def _id(self, ask: Ask) -> str:
        (id,) = ask.ids
        return id


async def events_of(  # noqa: PLR0917 - as a request has them
    http: httpx2.AsyncClient,
    method: str,
    path: str,
    headers: dict[str, str],
    body: Any = None,
    told: Callable[[httpx2.Response], None] | None = None,
) -> AsyncIterator[Event]:
    """Yield id, type and text of server-sent events until the stream ends. Raises one of `GONE` when it breaks."""
    content = None if body is None else json.dumps(body).encode()
    parser = EventParser()
    async with http.stream(method, path, content=content, headers={**SSE, **JSON, **headers}) as response:
        if response.status_code == 503:
            raise ConnectionResetError
        assert response.status_code == 200, (path, response.status_code, await response.aread())
        if told is not None:
            told(response)
        async for chunk in response.aiter_raw():
            for name, data, id in parser.feed(chunk):
                yield id.decode(), name.decode(), data.decode()
