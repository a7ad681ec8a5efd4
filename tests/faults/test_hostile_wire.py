"""Everything that must not come over the wire, at a real server: it answers, keeps its memory, and ends when told.

`FLUE_SEED` repeats a run. `FLUE_HOSTILE` is how many times the corpus, of some 5,000 messages, is sent (1).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

import flue as package
from tests.faults.hostile_http import Case, cases, chunked, post
from tests.faults.hostile_sockets import Handshake, SocketCase, handshakes, socket_cases
from tests.faults.wire import CLOSE, PING, PONG, TEXT, Wire, frame, frames, handshake

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

HTTP_CASES, SOCKET_CASES = 1600, 700
AT_ONCE = 24
ANSWER = 90.0
"""Seconds in which an answer must come: none that hangs does. On a busy machine one may take long."""
STALLED = 20.0
"""Seconds after which a client is given up that does not send what it began; see docs/reference/http.md."""
MEMORY = 20.0
ALLOWED = {501, 503}

PROJECT = {
    "agents/chat.py": """
        from flue import create_agent

        route = websocket = True
        agent = create_agent(model="demo/librarian")
        """,
    "workflows/echo.py": """
        route = websocket = True


        async def run(ctx):
            return ctx.payload
        """,
    "workflows/slow.py": """
        import asyncio

        route = websocket = True


        async def run(ctx):
            await asyncio.sleep(0.3)
        """,
    "workflows/chatty.py": """
        route = websocket = True


        async def run(ctx):
            for number in range(ctx.payload["times"]):
                ctx.log.info("x" * 50_000, {"number": number})
                await ctx.step(f"step {number}", lambda: None)  # which waits for the disk
        """,
}


class Server:
    """A server process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, errors: Path) -> None:
        self.process = process
        self.port = port
        self.errors = errors

    @property
    def resident(self) -> float:
        """Return its memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def used(self) -> float:
        """Return the seconds of CPU it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> float:
        """Tell it to end; return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await self.process.wait()
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """Serve the project above with `flue start`."""
    import textwrap

    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    errors = folder / "errors.log"
    source = str(Path(package.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {source!r}); from flue.cli.main import main; sys.exit(main())"
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, "start", "--port", "0", "--host", "127.0.0.1"), cwd=folder, stderr=log
        )
    try:
        port = None
        while port is None:
            assert process.returncode is None, errors.read_text()
            port = re.search(r"listening on \S+:(\d+)\n", errors.read_text())
            await asyncio.sleep(0.02)
        yield Server(process, int(port[1]), errors)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Attack:
    """Clients of one server, what they sent, and what was wrong with what came back."""

    def __init__(self, port: int) -> None:
        self.faults: list[str] = []
        self.messages = 0
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[int | None] = Counter()
        self.port = port
        self._instance = 0

    async def run(self, work: Iterable[Callable[[Attack], Awaitable[None]]]) -> None:
        """Do so much at once, all in all everything."""
        left = iter(list(work))

        async def client() -> None:
            for piece in left:
                await piece(self)

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))

    def fault(self, name: str, sent: object, what: str) -> None:
        """Note that something was wrong."""
        self.faults.append(f"{name}: {what}; sent {str(sent)[:300]}")

    def judge(self, name: str, sent: object, wire: Wire) -> None:
        """Note the statuses that came."""
        self.statuses.update(wire.statuses)
        if wrong := [status for status in wire.statuses if status >= 500 and status not in ALLOWED]:
            self.fault(name, sent, f"answered {wrong}")

    async def http(self, case: Case) -> None:
        """Send a case of HTTP."""
        self.messages += case.messages
        wire = await Wire.open(self.port)
        for number, piece in enumerate(self._spread(case.pieces)):
            if number:
                await asyncio.sleep(0)  # so that the pieces come one by one, mostly
            if not await wire.send(piece):
                break
        if case.answers:
            if not await wire.read(lambda: len(wire.statuses) >= case.answers, ANSWER) and not wire.ended:
                self.fault(case.name, case.pieces, f"{len(wire.statuses)} of {case.answers} answers")
            await wire.read(lambda: False, 0.01)  # what nobody asked for
        self.judge(case.name, case.pieces, wire)
        if len(wire.statuses) > case.most or b"/runs/smuggled" in wire.received:
            self.fault(case.name, case.pieces, f"{len(wire.statuses)} answers: {wire.received!r}")
        if case.leave == "half":
            wire.half_close()
            if not await wire.read_to_end(ANSWER):
                self.fault(case.name, case.pieces, "the connection stays open after the client has gone")
        wire.close(reset=case.leave == "reset")

    async def socket(self, case: SocketCase) -> None:
        """Open a socket and send what the case says."""
        self.messages += 1 + case.messages
        (path,) = self._spread((case.path.encode(),))
        wire = await self.opened(path.decode())
        for number, piece in enumerate(case.pieces):
            if number:
                await asyncio.sleep(0)  # so that the pieces come one by one, mostly
            if not await wire.send(piece):
                break
        if not case.codes:
            wire.close(reset=True)
            return
        if not await wire.read(lambda: any(each.opcode == CLOSE for each in frames(wire.received)), ANSWER):
            self.fault(case.name, case.pieces, f"no end in sight: {wire.received[-300:]!r}")
        for each in frames(wire.received):
            if each.opcode == CLOSE:
                self.codes[each.code] += 1
                if (each.code or 1005) not in case.codes:
                    self.fault(case.name, case.pieces, f"closed with {each.code} {each.payload[2:]!r}")
            elif each.opcode not in (TEXT, PONG, PING):
                self.fault(case.name, case.pieces, f"a frame of kind {each.opcode}")
        wire.close()

    async def handshake(self, case: Handshake) -> None:
        """Try to open a socket."""
        self.messages += 1
        wire = await Wire.open(self.port)
        await wire.send(case.data)
        await wire.read(lambda: bool(wire.statuses), ANSWER)
        self.judge(case.name, case.data, wire)
        accepted = wire.statuses[:1] == [101]
        if accepted is not case.accepted or not wire.statuses:
            self.fault(case.name, case.data, f"answered {wire.received[:200]!r}")
        if not accepted and not await wire.read_to_end(ANSWER):
            self.fault(case.name, case.data, "the connection stays open")
        wire.close()

    def _spread(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Let it be many conversations, so that none grows long."""
        self._instance += 1
        return [piece.replace(b"/chat/ann", b"/chat/ann-%d" % (self._instance % 500)) for piece in pieces]

    async def opened(self, path: str, *, narrow: bool = False) -> Wire:
        wire = await Wire.open(self.port, narrow=narrow)
        await wire.send(handshake(path))
        assert await wire.read(lambda: b"\r\n\r\n" in wire.received, ANSWER), path
        return wire

    async def healthy(self) -> None:
        """See that everything works for whoever behaves."""
        wire = await Wire.open(self.port)
        await wire.send(post(b"/workflows/echo?wait=result", b'{"how":"are you"}'))
        assert await wire.read(lambda: b'"_meta"' in wire.received, ANSWER), wire.received
        assert wire.statuses == [200]
        wire.close()
        wire = await self.opened("/agents/chat/healthy")
        await wire.send(
            frame(TEXT, json.dumps({"version": 1, "type": "prompt", "requestId": "h", "message": "hi"}).encode())
        )
        assert await wire.read(lambda: b'"type":"result"' in wire.received, ANSWER), wire.received
        wire.close()


class Slow:
    """Clients that send slower than anything alive."""

    def __init__(self, port: int) -> None:
        self._wires: list[tuple[str, Wire]] = []
        self.port = port
        self._drips: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Begin requests, handshakes and bodies that come a byte at a time, or not at all."""
        head, body = b"GET / HTTP/1.1\r\nx: ", b"POST /workflows/echo HTTP/1.1\r\nhost: x\r\n"
        for name, begin in (
            ("nothing", b""),
            ("head", head),
            ("second head", b"GET /runs/none HTTP/1.1\r\nhost: x\r\n\r\n" + head),
            ("handshake", handshake("/agents/chat/ann")[:-4] + b"x: "),
            ("body", body + b"content-type: application/json\r\ncontent-length: 500000\r\n\r\n["),
            ("chunks", chunked(b"/workflows/echo", b"5000\r\n[")),
            ("chunk extension", chunked(b"/workflows/echo", b"1;")),
        ):
            for pause in (0.5, 1000.0):
                wire = await Wire.open(self.port)
                await wire.send(begin)
                self._wires.append((name, wire))
                self._drips.append(asyncio.create_task(self._send(wire, pause)))

    async def _send(self, wire: Wire, pause: float) -> None:
        while await wire.send(b"1"):  # noqa: ASYNC110 - a pace, not a condition
            await asyncio.sleep(pause)

    async def ended(self) -> list[str]:
        """Wait for the slow to be given up; return those who were not."""
        await asyncio.gather(*(wire.read_to_end(STALLED * 2) for _, wire in self._wires))
        return [f"{name}: still open" for name, wire in self._wires if not wire.ended]

    def close(self) -> None:
        """Leave without a word."""
        for task in self._drips:
            task.cancel()
        for _, wire in self._wires:
            wire.close(reset=True)


@contextlib.asynccontextmanager
async def unread(attack: Attack) -> AsyncIterator[None]:
    """Have much written to clients that do not read it; they are there for the length of the block."""
    head = b"content-type: application/json\r\naccept: text/event-stream\r\n"
    invoke = json.dumps({"version": 1, "type": "invoke", "requestId": "r", "payload": {"times": 100}}).encode()
    wires = []
    for _ in range(10):
        wire = await Wire.open(attack.port, narrow=True)
        await wire.send(post(b"/workflows/chatty", b'{"times":100}', head))
        wires.append(wire)
        wire = await attack.opened("/workflows/chatty", narrow=True)
        await wire.send(frame(TEXT, invoke))
        wires.append(wire)
    for _ in range(4):
        wire = await attack.opened("/agents/chat/ann", narrow=True)
        for _ in range(60):  # each is answered by as much, until the server does not take any more
            if not await wire.send(frame(PING, b"x" * 125) * 500, 1.0):
                break
        wires.append(wire)
    attack.messages += len(wires)
    try:
        yield
    finally:
        for wire in wires:
            wire.close(reset=True)


def pieces(chance: random.Random, share: float) -> list[Callable[[Attack], Awaitable[None]]]:
    """Return a share of the corpus, in any order."""
    found: list[Callable[[Attack], Awaitable[None]]] = []
    found += [partial(Attack.http, case=case) for case in cases(chance, int(HTTP_CASES * share))]
    found += [partial(Attack.socket, case=case) for case in socket_cases(chance, int(SOCKET_CASES * share))]
    found += [partial(Attack.handshake, case=case) for case in handshakes()]
    chance.shuffle(found)
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads a process's memory from /proc")
async def test_a_server_withstands_whatever_comes_over_the_wire(tmp_path: Path) -> None:
    seed = os.environ.get("FLUE_SEED") or token_hex(4)
    chance = random.Random(seed)  # noqa: S311
    times = int(os.environ.get("FLUE_HOSTILE") or 1)
    began = time.monotonic()
    async with serving(tmp_path) as server:
        attack, slow = Attack(server.port), Slow(server.port)
        await slow.begin()
        async with unread(attack):
            await attack.run(pieces(chance, 0.25))
        await attack.healthy()
        before = server.resident
        for _ in range(times):
            async with unread(attack):
                await attack.run(pieces(chance, 0.75))
        attack.faults += await slow.ended()
        slow.close()
        await attack.healthy()
        drift, used = server.resident - before, server.used
        async with unread(attack):
            took = await server.stop()
    errors = server.errors.read_text()
    print(  # noqa: T201 - the figures
        f"\nFLUE_SEED={seed}: {attack.messages} messages in {time.monotonic() - began:.0f} s ({used:.0f} s of its CPU);"
        f" statuses {dict(sorted(attack.statuses.items()))}, close codes {dict(attack.codes)};"
        f" {before:.0f} MiB, {drift:+.1f} MiB; ended in {took:.1f} s"
    )
    where = f"FLUE_SEED={seed}, see {tmp_path}"
    assert not attack.faults, f"{where}: {len(attack.faults)}\n" + "\n".join(attack.faults[:40])
    assert "Traceback" not in errors, f"{where}\n{errors[-6000:]}"
    assert "error:" not in errors, f"{where}\n{errors[-6000:]}"
    assert attack.messages >= 5000
    assert drift < MEMORY, where
    assert took < 5, where
    assert server.process.returncode == 128 + signal.SIGTERM, errors[-2000:]
