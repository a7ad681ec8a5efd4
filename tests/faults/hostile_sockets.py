"""WebSockets as nobody should use them: handshakes, and the categories of the Autobahn test suite after them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults.wire import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, UPGRADE, frame, handshake

MIB = 1024 * 1024
AGENT, WORKFLOW = "/agents/chat/ann", "/workflows/echo"

Chance = random.Random


@dataclass(frozen=True, slots=True)
class SocketCase:
    """What one client sends after its handshake. `codes` are those the server may close with; empty: it need not."""

    name: str
    path: str
    pieces: tuple[bytes, ...]
    codes: tuple[int, ...] = ()
    messages: int = 1


@dataclass(frozen=True, slots=True)
class Handshake:
    """A handshake that is refused, or taken when `accepted`."""

    name: str
    data: bytes
    accepted: bool = False


Maker = Callable[[Chance], SocketCase]


def socket_cases(chance: Chance, count: int) -> Iterator[SocketCase]:
    """Yield so many cases: each kind first, in any order, then any."""
    makers = list(_MAKERS)
    chance.shuffle(makers)
    for number in range(count):
        yield (makers[number] if number < len(makers) else chance.choice(makers))(chance)


def prompt(**fields: Any) -> bytes:
    """Return a prompt's text."""
    return json.dumps({"version": 1, "type": "prompt", "requestId": "r1", "message": "hi", **fields}).encode()


def _ping(number: int) -> bytes:
    return json.dumps({"version": 1, "type": "ping", "requestId": f"p{number}"}).encode()


_CLEAN = frame(CLOSE, (1000).to_bytes(2, "big"))


def _opcode(chance: Chance) -> SocketCase:
    opcode = chance.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))
    return SocketCase("reserved opcode", AGENT, (frame(opcode, b"x" * chance.choice((0, 10))),), (1002,))


def _reserved(chance: Chance) -> SocketCase:
    opcode = chance.choice((TEXT, BINARY, PING, CLOSE))
    return SocketCase("reserved bits", AGENT, (frame(opcode, b"", reserved=chance.randint(1, 7)),), (1002,))


def _unmasked(chance: Chance) -> SocketCase:
    opcode = chance.choice((TEXT, BINARY, PING, PONG, CLOSE))
    return SocketCase("no mask", AGENT, (frame(opcode, b"\x03\xe8", masked=False),), (1002,))


def _control(chance: Chance) -> SocketCase:
    opcode = chance.choice((PING, PONG, CLOSE))
    bad = chance.choice((frame(opcode, b"\x03\xe8", final=False), frame(opcode, b"\x03\xe8" + b"x" * 124, width=2)))
    return SocketCase("control frame", AGENT, (bad,), (1002,))


def _fragments(chance: Chance) -> SocketCase:
    kind = chance.randint(0, 3)
    if kind == 0:
        return SocketCase("continuation of nothing", AGENT, (frame(CONTINUATION, b"x"),), (1002,))
    if kind == 1:
        return SocketCase("message in a message", AGENT, (frame(TEXT, b"x", final=False), frame(TEXT, b"y")), (1002,))
    text = _ping(1)
    parts = [frame(TEXT, text[:5], final=False)]
    if kind == 2:
        parts += [frame(PING, b"between"), frame(CONTINUATION, text[5:]), _CLEAN]
        return SocketCase("ping in a message", AGENT, tuple(parts), (1000,), messages=4)
    parts += [frame(CONTINUATION, b"", final=False)] * 400 + [frame(CONTINUATION, text[5:]), _CLEAN]
    return SocketCase("many empty fragments", AGENT, (b"".join(parts),), (1000,), messages=20)


_NOT_UTF8 = (
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xe2\x82",
    b"\x80",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
)


def _bad_text(chance: Chance) -> SocketCase:
    text = prompt()[:-2] + chance.choice(_NOT_UTF8) + b'"}'
    if chance.random() < 0.5:
        return SocketCase("bad UTF-8", AGENT, (frame(TEXT, text),), (1007,))
    at = chance.randint(1, len(text) - 1)
    parts = (frame(TEXT, text[:at], final=False), frame(CONTINUATION, text[at:]))
    return SocketCase("bad UTF-8 in fragments", AGENT, parts, (1007,), messages=2)


def _split_text(chance: Chance) -> SocketCase:
    text = json.dumps({"version": 1, "type": "ping", "requestId": "\U0001f600é"}, ensure_ascii=False).encode()
    parts = [frame(TEXT, text[:1], final=False)]
    parts += [frame(CONTINUATION, text[at : at + 1], final=False) for at in range(1, len(text))]
    parts += [frame(CONTINUATION), _CLEAN]
    return SocketCase("UTF-8 byte by byte", AGENT, (b"".join(parts),), (1000,), messages=10)


_GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def _close(chance: Chance) -> SocketCase:
    code = chance.choice(_GOOD_CODES)
    reason = chance.choice((b"", b"bye", b"x" * 123))
    return SocketCase("close", AGENT, (frame(CLOSE, code.to_bytes(2, "big") + reason),), (code,))


def _bad_close(chance: Chance) -> SocketCase:
    payload = chance.choice(
        (
            chance.choice(_BAD_CODES).to_bytes(2, "big"),
            b"\x03",
            b"\x03\xe8\xff\xfe",
            b"\x03\xe8" + b"\xed\xa0\x80",
        )
    )
    return SocketCase("bad close", AGENT, (frame(CLOSE, payload),), (1002, 1007))


def _close_and_more(chance: Chance) -> SocketCase:
    after = chance.choice((frame(TEXT, _ping(1)), frame(PING, b"x"), _CLEAN, b"\xff" * 100))
    return SocketCase("something after the close", AGENT, (_CLEAN + after,), (1000,), messages=2)


def _empty_close(chance: Chance) -> SocketCase:
    return SocketCase("close without a code", AGENT, (frame(CLOSE),), (1005,))


def _length(chance: Chance) -> SocketCase:
    kind = chance.randint(0, 4)
    if kind == 0:
        return SocketCase("claims 2^63", AGENT, (frame(TEXT, b"x", length=2**63, width=8),), (1002, 1009))
    if kind == 1:
        return SocketCase("claims 2^62", AGENT, (frame(TEXT, b"x", length=2**62, width=8),), (1009,))
    if kind == 2:
        return SocketCase("claims too much", AGENT, (frame(TEXT, b"x", length=MIB + 1, width=8),), (1009,))
    if kind == 3:
        parts = [frame(TEXT, b"x" * (MIB // 2), final=False), frame(CONTINUATION, b"x" * (MIB // 2), final=False)]
        return SocketCase("too much in fragments", AGENT, (*parts, frame(CONTINUATION, b"x")), (1009,), messages=3)
    text = prompt()
    return SocketCase("length in too many bytes", AGENT, (frame(TEXT, text, width=8) + _CLEAN,), (1000, 1002), 2)


def _largest(chance: Chance) -> SocketCase:
    text = json.dumps({"version": 1, "type": "ping", "requestId": "p"}).encode()
    return SocketCase("a message of 1 MiB", AGENT, (frame(TEXT, text.ljust(MIB)), _CLEAN), (1000,), messages=2)


def _binary(chance: Chance) -> SocketCase:
    return SocketCase("binary", chance.choice((AGENT, WORKFLOW)), (frame(BINARY, chance.randbytes(50)),), (1003,))


def _pings(chance: Chance) -> SocketCase:
    parts = [frame(PING, chance.randbytes(chance.choice((0, 1, 125)))) for _ in range(20)]
    parts += [frame(PONG, b"nobody asked")] * 5
    return SocketCase("pings and pongs", AGENT, (b"".join(parts) + _CLEAN,), (1000,), messages=26)


def _ping_bytewise(chance: Chance) -> SocketCase:
    data = frame(PING, b"slowly") + _CLEAN
    return SocketCase("byte by byte", AGENT, tuple(data[at : at + 1] for at in range(len(data))), (1000,), messages=2)


def _noise(chance: Chance) -> SocketCase:
    return SocketCase("noise", AGENT, (b"\xff" + chance.randbytes(200),), (1002,))


def _http(chance: Chance) -> SocketCase:
    return SocketCase("HTTP in a socket", AGENT, (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",), (1002,))


def _cut(chance: Chance) -> SocketCase:
    data = frame(TEXT, prompt())
    return SocketCase("cut frame", AGENT, (data[: chance.randint(1, len(data) - 1)],))


_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    "",
    " ",
    "\x00",
    "x" * 600,
    "\ud800",
    [],
    {},
    [[]] * 40,
    {"a": {}},
)


def _protocol(chance: Chance) -> SocketCase:
    path, fields = chance.choice(((AGENT, _AGENT_FIELDS), (WORKFLOW, _WORKFLOW_FIELDS)))
    texts = []
    for _ in range(chance.randint(3, 12)):
        message = dict(fields)
        for name in chance.sample(sorted(fields), chance.randint(1, 3)):
            message[name] = chance.choice(_VALUES)
        if chance.random() < 0.2:
            del message[chance.choice(sorted(message))]
        texts.append(json.dumps(message).encode())
    texts.insert(chance.randint(0, len(texts)), chance.choice((b"", b"null", b"[]", b"{", b"NaN", b"[" * 5000)))
    sent = b"".join(frame(TEXT, text) for text in texts)
    return SocketCase("wrong messages", path, (sent + _CLEAN,), (1000, 1008), messages=len(texts) + 1)


_AGENT_FIELDS = {"version": 1, "type": "prompt", "requestId": "r", "message": "hi", "session": "s", "busy": "queue"}
_WORKFLOW_FIELDS = {"version": 1, "type": "invoke", "requestId": "r", "payload": {}}


def _twice(chance: Chance) -> SocketCase:
    invoke = json.dumps({"version": 1, "type": "invoke", "requestId": "r", "payload": [1]}).encode()
    return SocketCase("invoked twice", WORKFLOW, (frame(TEXT, invoke) * 2,), (1000, 1008), messages=2)


def _flood(chance: Chance) -> SocketCase:
    sent = b"".join(frame(TEXT, prompt(requestId=f"r{number}", session=f"s{number % 3}")) for number in range(40))
    return SocketCase("more prompts than may wait", AGENT, (sent + _CLEAN,), (1000,), messages=41)


_MAKERS: tuple[Maker, ...] = (
    *(_opcode, _reserved, _unmasked, _control, _fragments, _fragments, _bad_text, _bad_text, _split_text, _close),
    *(_bad_close, _close_and_more, _empty_close, _length, _length, _largest, _binary, _pings, _ping_bytewise, _noise),
    *(_http, _cut, _protocol, _protocol, _protocol, _twice, _flood),
)

# --------------------------------------------------------------------------------------------- handshakes

_GET = b"GET /agents/chat/ann HTTP/1.1\r\n"


def handshakes() -> Iterator[Handshake]:
    """Yield handshakes of all kinds."""
    for name, data in _REFUSED.items():
        yield Handshake(name, data)
    for name, more in _TAKEN.items():
        yield Handshake(name, handshake(AGENT, more), accepted=True)


_REFUSED = {
    "no key": _GET + UPGRADE + b"\r\n",
    "bad key": _GET + UPGRADE + b"sec-websocket-key: !!\r\n\r\n",
    "short key": _GET + UPGRADE + b"sec-websocket-key: AAAA\r\n\r\n",
    "two keys": _GET + UPGRADE + KEY + KEY + b"\r\n",
    "wrong version": _GET + UPGRADE.replace(b"13", b"8") + KEY + b"\r\n",
    "no version": _GET + UPGRADE.replace(b"sec-websocket-version: 13\r\n", b"") + KEY + b"\r\n",
    "version is no number": _GET + UPGRADE.replace(b"13", b"\xff") + KEY + b"\r\n",
    "POST": b"POST /agents/chat/ann HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n",
    "with a body": _GET + UPGRADE + KEY + b"content-length: 5\r\n\r\nhello",
    "with chunks": _GET + UPGRADE + KEY + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0": _GET.replace(b"1.1", b"1.0") + UPGRADE + KEY + b"\r\n",
    "unknown agent": handshake("/agents/nobody/ann"),
    "unknown workflow": handshake("/workflows/nothing"),
    "no such socket": handshake("/runs/none"),
    "blank id": handshake("/agents/chat/%20"),
    "id too long": handshake("/agents/chat/" + "x" * 600),
    "id with a zero": handshake("/agents/chat/%00"),
    "id not UTF-8": handshake("/agents/chat/%FF"),
    "half a surrogate": handshake("/agents/chat/%ED%A0%80"),
    "not ASCII": handshake("/agents/chat/").replace(b"chat/ ", b"chat/\xff\xfe "),
    "many headers": handshake(AGENT, b"".join(b"h%d: v\r\n" % number for number in range(200))),
    "a long header": handshake(AGENT, b"x: " + b"y" * 20_000 + b"\r\n"),
    "headers too large": handshake(AGENT, b"x: " + b"y" * 90_000 + b"\r\n"),
    "a long path": handshake("/agents/chat/" + "x" * 20_000),
    "folded header": handshake(AGENT, b"x: a\r\n b\r\n"),
    "header name not ASCII": handshake(AGENT, b"x\xe9: a\r\n"),
    "zero in a header": handshake(AGENT, b"x: a\x00b\r\n"),
}
_TAKEN = {
    "compression offered": b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n",
    "unknown extension": b"sec-websocket-extensions: x-nothing; a=b\r\n",
    "subprotocols": b"sec-websocket-protocol: a, b, c\r\n",
    "header value not ASCII": b"x: \xff\xfe\r\n",
    "an origin": b"origin: http://evil.example\r\n",
}
