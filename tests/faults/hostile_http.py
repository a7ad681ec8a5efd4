"""HTTP that nobody should send. Each case is made from chances, and says how many answers it has to get."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_END = b"\r\n\r\n"
_HOST = b"host: x\r\n"
_JSON = b"content-type: application/json\r\n"
_GET = b"GET /runs/none HTTP/1.1\r\nhost: x\r\n\r\n"
_LAST = b"GET /runs/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What one connection sends.

    `answers` is how many responses must come, or the connection's end before that; `most` how many may come. `leave`
    is how the client goes, once it has them. `messages` counts what it sends.
    """

    name: str
    pieces: tuple[bytes, ...]
    answers: int = 1
    most: int = 1
    leave: str = "close"
    messages: int = 1


Chance = random.Random
Maker = Callable[[Chance], Case]


def cases(chance: Chance, count: int) -> Iterator[Case]:
    """Yield so many cases: each kind first, in any order, then any."""
    makers = list(_MAKERS)
    chance.shuffle(makers)
    for number in range(count):
        yield (makers[number] if number < len(makers) else chance.choice(makers))(chance)


def post(path: bytes, body: bytes, head: bytes = _JSON, length: int | None = None) -> bytes:
    """Return a request with a body."""
    size = len(body) if length is None else length
    return b"POST %s HTTP/1.1\r\n" % path + _HOST + head + b"content-length: %d\r\n\r\n" % size + body


def chunked(path: bytes, body: bytes, head: bytes = _JSON) -> bytes:
    """Return a request whose body is given as it is sent in chunks."""
    return b"POST %s HTTP/1.1\r\n" % path + _HOST + head + b"transfer-encoding: chunked\r\n\r\n" + body


# ------------------------------------------------------------------------------------------- request lines

_LINES = (
    b"GET",
    b"GET /",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/1.1 extra",
    b"GET / HTTP/9.9",
    b"GET / HTTP/1.",
    b"GET / HTTPS/1.1",
    b"GET / http/1.1",
    b"GET /\t HTTP/1.1",
    b" GET / HTTP/1.1",
    b"get / HTTP/1.1",
    b"GET / HTTP/1.1\r\nhost: x\x00y",
    b"\x00\x01\x02\x03",
    b"\xff\xfe\xfd HTTP/1.1",
    b"G\xc3\x89T / HTTP/1.1",
    b"X" * 10_000 + b" / HTTP/1.1",
    b"GET " + b"/" * 70_000 + b" HTTP/1.1",
    b"GET /\xff\xfe HTTP/1.1",
    b"GET /\x00 HTTP/1.1",
    b"GET / HTTP/1.1\x00",
    b"GET http://[::1 HTTP/1.1",
    b"GET http://evil:99999/ HTTP/1.1",
    b"GET //evil/agents HTTP/1.1",
    b"GET \\\\evil\\agents HTTP/1.1",
    b"CONNECT evil:443 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"PRI * HTTP/2.0\r\n\r\nSM",
    b"HTTP/1.1 200 OK",
    b"SSH-2.0-OpenSSH_9.6",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
)


def _line(chance: Chance) -> Case:
    line = chance.choice(_LINES)
    return Case("request line", (line + b"\r\n" + _HOST + b"connection: close\r\n\r\n",), most=2)


_METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"M-SEARCH")
_SEGMENTS = (
    *(b"workflows", b"agents", b"runs", b"echo", b"chat", b"ann", b"events", b"submissions", b"abort", b"approvals"),
    *(b"dispatch", b"budget", b"openapi.json", b"", b".", b"..", b"%2e%2e", b"%2F", b"%00", b"%FF", b"%ED%A0%80"),
    *(b"%", b"%zz", b"%0d%0aset-cookie:%20a=b", b"a" * 3000, b"%C3%A9", b"%F0%9F%98%80", b"%20", b";x=y", b"*", b"~"),
)
_QUERIES = (
    *(b"", b"?", b"?wait=result", b"?wait=%FF", b"?wait=result&wait=x", b"?limit=0", b"?limit=%D9%A1", b"?limit=1e9"),
    *(b"?after=99999999999999999999", b"?after=-1", b"?types=log,%00", b"?cursor=%FF", b"?busy=reject", b"?a=b" * 900),
    *(b"?#frag", b"??", b"?\xc3\xa9", b"?%"),
)


def _path(chance: Chance) -> Case:
    path = b"/" + b"/".join(chance.choices(_SEGMENTS, k=chance.randint(0, 6))) + chance.choice(_QUERIES)
    method = chance.choice(_METHODS)
    return Case("path", (method + b" " + path + b" HTTP/1.1\r\n" + _HOST + b"connection: close\r\n\r\n",))


# ------------------------------------------------------------------------------------------------ headers

_HEADERS = (
    b"no colon here",
    b": no name",
    b"space : before",
    b"x: a\r\n folded",
    b"x: a\r\n\tfolded",
    b"x: a\x00b",
    b"x: a\x7fb",
    b"x: \xff\xfe",
    b"x\xe9: y",
    b"x(y): z",
    b"x: " + b"y" * 60_000,
    b"x: " + b"y" * 100_000,
    b"x" * 70_000 + b": y",
    b"\r\n".join(b"h%d: v" % number for number in range(300)),
    b"\r\n".join(b"h%d: %s" % (number, b"v" * 20) for number in range(4000)),
    b"\r\n".join(b"a:" for _ in range(9000)),
    b"host: y",
    b"host: a b",
    b"host:",
    b"host: \xff",
    b"accept: " + b"text/event-stream," * 500,
    b"accept: text/\xff",
    b"accept-encoding: gzip;q=nan",
    b"authorization: Bearer \xe9",
    b"authorization: " + b"x" * 9000,
    b"idempotency-key: \xe9",
    b"idempotency-key: " + b"k" * 9000,
    b"last-event-id: " + b"9" * 4000,
    b"x-forwarded-for: " + b"1.1.1.1, " * 900,
    b"x-forwarded-for: \xff, ::::, 999.999.999.999",
    b"x-forwarded-proto: javascript",
    b"forwarded: for=\x01",
    b"expect: 200-ok",
    b"expect: 100-continue",
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
    b"upgrade: websocket",
    b"connection: upgrade",
    b"connection: close, keep-alive, \xff",
    b"cookie: " + b"a=b; " * 5000,
    b"range: bytes=0-18446744073709551615,5-",
    b"te: trailers, deflate;q=0.5",
    b"traceparent: 00-zz-zz-zz",
)


def _header(chance: Chance) -> Case:
    lines = b"\r\n".join(chance.choices(_HEADERS, k=chance.randint(1, 2)))
    path = chance.choice((b"/runs/none", b"/agents/chat/ann", b"/workflows/echo?wait=result"))
    method = b"GET" if path.startswith(b"/runs") else b"POST"
    return Case(
        "header", (method + b" " + path + b" HTTP/1.1\r\n" + _HOST + lines + b"\r\nconnection: close\r\n\r\n",), most=2
    )


def _many_headers(chance: Chance) -> Case:
    pieces = [b"GET / HTTP/1.1\r\n"]
    pieces += [b"\r\n".join(b"x%d: %s" % (chance.randint(0, 9), b"v" * 900) for _ in range(20)) + b"\r\n"] * 8
    return Case("header flood", tuple(pieces))


# ------------------------------------------------------------------------------------------------- bodies

_BODIES = (
    b"{}",
    b'{"message":"hi"}',
    b'{"message":"hi","session":"\\u0000"}',
    b'{"message":"\\u0000"}',
    b'{"message":""}',
    b'{"message":"\\ud800"}',
    b'{"message":"\xed\xa0\x80"}',
    b'{"message":"\xff"}',
    b'{"message":"\xc0\xaf"}',
    b'{"message":"hi","session":"' + b"x" * 600 + b'"}',
    b'{"message":"hi","session":"task:x"}',
    b'{"message":{},"session":[]}',
    b"null",
    b"[[" * 20_000,
    b'{"a":' * 20_000,
    b"1" * 20_000,
    b"-",
    b"NaN",
    b"1e400",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"\x00" * 1000,
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    b"--x\r\nContent-Disposition: form-data\r\n\r\n",
    b"a=b&c=d",
    b" " * 70_000,
    b'"' + b"x" * 200_000,
    json.dumps({"k": "\U0001f600" * 5000}).encode(),
)
_TARGETS = (b"/workflows/echo?wait=result", b"/workflows/echo", b"/agents/chat/ann", b"/agents/chat/%F0%9F%98%80")
_TYPES = (_JSON, _JSON, _JSON, b"", b"content-type: text/plain\r\n", b"content-type: \xff\r\n", b"content-type:\r\n")


def _body(chance: Chance) -> Case:
    request = post(chance.choice(_TARGETS), chance.choice(_BODIES), chance.choice(_TYPES) + b"connection: close\r\n")
    return Case("body", (request,))


def _encoded(chance: Chance) -> Case:
    head = _JSON + b"content-encoding: %s\r\nconnection: close\r\n" % chance.choice((b"gzip", b"br", b"\xff", b"x, y"))
    return Case("content encoding", (post(chance.choice(_TARGETS), b'{"message":"hi"}', head),))


def _cut_upload(chance: Chance) -> Case:
    sent = chance.randint(0, 5000)
    request = post(chance.choice(_TARGETS), b"{" + b" " * sent, length=chance.choice((5002, 100_000, 9_000_000)))
    leave = chance.choice(("close", "reset", "half"))
    return Case("cut upload", (request,), answers=0, leave=leave)


def _announced(chance: Chance) -> Case:
    size = chance.choice((10_485_761, 2**31, 2**63 - 1))
    return Case("announced too much", (post(chance.choice(_TARGETS), b"{", length=size),))


def _continue(chance: Chance) -> Case:
    head = _JSON + b"expect: 100-continue\r\nconnection: close\r\n"
    request = post(chance.choice(_TARGETS), b'{"message":"hi"}', head)
    at = request.index(_END) + 4
    return Case("100-continue", (request[:at], request[at:]), answers=2, most=2)


def _too_long(chance: Chance) -> Case:
    return Case("length too small", (post(b"/workflows/echo", b'{"a":1}' + b"x" * 50, length=7) + _LAST,), most=2)


_LENGTHS = (
    *(
        b"-1",
        b"+5",
        b"0x10",
        b"1e3",
        b"5 5",
        b"5, 5",
        b"5,6",
        b" ",
        b"9" * 40,
        b"\xd9\xa1",
        b"5\x00",
        b"5\r\ncontent-length: 6",
    ),
    *(b"5\r\ncontent-length: 5", b"5\r\n 5"),
)


def _length(chance: Chance) -> Case:
    head = b"POST /workflows/echo HTTP/1.1\r\n" + _HOST + _JSON + b"connection: close\r\n"
    return Case("content-length", (head + b"content-length: " + chance.choice(_LENGTHS) + _END + b"12345",), most=2)


# ------------------------------------------------------------------------------------------------- chunks

_CHUNKS = (
    b"zz\r\nhello\r\n0\r\n\r\n",
    b"-1\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n",
    b"00000000000000000000000000000002\r\n{}\r\n0\r\n\r\n",
    b"2\n{}\n0\n\n",
    b"2\r{}\r0\r\r",
    b"2\r\n{}XX0\r\n\r\n",
    b"2\r\n{}\r\n\r\n0\r\n\r\n",
    b"2;" + b"x" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
    b'2;a="\r\n";b\r\n{}\r\n0\r\n\r\n',
    b"2;\x00\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    b"2\r\n{}\r\n0\r\n" + b"".join(b"t%d: v\r\n" % number for number in range(9000)) + b"\r\n",
    b"2\r\n{}\r\n0\r\nx: " + b"v" * 200_000 + b"\r\n\r\n",
    b"2\r\n{}\r\n0\r\nx-webhook: true\r\nno colon\r\n\r\n",
    b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    b"1\r\n \r\n" * 3000 + b"0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"0\r\n\r\n",
)


def _chunks(chance: Chance) -> Case:
    body = chance.choice(_CHUNKS)
    head = _JSON + b"connection: close\r\n"
    return Case("chunks", (chunked(chance.choice(_TARGETS), body, head),), most=2)


def _cut_chunks(chance: Chance) -> Case:
    body = chance.choice(
        (
            b"5",
            b"5\r\nhe",
            b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
            b"2\r\n{}\r\n",
            b"2\r\n{}\r\n0\r\nx:",
            b"1;" + b"x" * 60_000,
        )
    )
    return Case(
        "cut chunks", (chunked(chance.choice(_TARGETS), body),), answers=0, leave=chance.choice(("close", "reset"))
    )


# ----------------------------------------------------------------------------------------------- smuggling

_CODINGS = (
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: xchunked\r\n",
    b"transfer-encoding : chunked\r\n",
    b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    b"transfer-encoding: identity, chunked\r\n",
    b"transfer-encoding: chunked, identity\r\n",
    b"transfer-encoding:\x0bchunked\r\n",
    b"transfer-encoding: chunked\x00\r\n",
    b"x: y\r\n transfer-encoding: chunked\r\n",
    b"transfer-encoding\r\n: chunked\r\n",
    b"Transfer-Encoding: CHUNKED\r\n",
)
_SMUGGLED = b"GET /runs/smuggled HTTP/1.1\r\nhost: x\r\nx: "


def _length_first(chance: Chance) -> Case:
    """What a server that goes by the length would take for a body holds a request for one that goes by the chunks."""
    body = b"0\r\n\r\n" + _SMUGGLED
    head = b"POST /workflows/echo HTTP/1.1\r\n" + _HOST + _JSON + b"content-length: %d\r\n" % len(body)
    return Case("smuggling, length and chunks", (head + chance.choice(_CODINGS) + b"\r\n" + body,), answers=0)


def _chunks_first(chance: Chance) -> Case:
    inner = b"GET /runs/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    body = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
    coding = chance.choice(_CODINGS)
    head = b"POST /workflows/echo HTTP/1.1\r\n" + _HOST + _JSON + coding + b"content-length: 4\r\n\r\n"
    return Case("smuggling, chunks and length", (head + body,), answers=0)


def _old_chunks(chance: Chance) -> Case:
    head = b"POST /workflows/echo HTTP/1.0\r\n" + _HOST + _JSON + b"connection: keep-alive\r\n"
    return Case("chunks in HTTP/1.0", (head + chance.choice(_CODINGS) + b"\r\n0\r\n\r\n" + _SMUGGLED,), answers=0)


# ---------------------------------------------------------------------------------------------- pipelining


def _pipeline(chance: Chance) -> Case:
    count = chance.randint(2, 12)
    requests = [chance.choice((_GET, post(b"/workflows/echo", b"[1]"), _GET * 2)) for _ in range(count)]
    data = b"".join(requests) + _LAST
    sent = data.count(b" HTTP/1.1\r\n")
    cut = sorted(chance.sample(range(len(data)), 3))
    pieces = tuple(data[begin:end] for begin, end in zip([0, *cut], [*cut, len(data)], strict=True))
    return Case("pipeline", pieces, answers=sent, most=sent, messages=sent)


def _long_pipeline(chance: Chance) -> Case:
    count = chance.choice((200, 1000))
    return Case("long pipeline", (_GET * count,), answers=1, most=count, leave="reset", messages=1)


def _pipeline_then_noise(chance: Chance) -> Case:
    noise = chance.choice((b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 2000, b"\r\n" * 50_000))
    return Case("pipeline, then noise", (_GET * 3 + noise,), answers=1, most=4, messages=4)


def _behind_a_stream(chance: Chance) -> Case:
    stream = b"GET /agents/chat/held/stream HTTP/1.1\r\nhost: x\r\n\r\n"
    behind = chance.choice((_GET * 300, post(b"/workflows/echo", b"{", length=200_000), b"\x00" * 500, b"GE"))
    # Where requests wait, nothing more is read: that the client says no more, either.
    return Case("behind a stream", (stream, behind), answers=1, most=2, leave=chance.choice(("close", "reset")))


# --------------------------------------------------------------------------------------------------- leaving


def _cut_head(chance: Chance) -> Case:
    request = post(b"/workflows/echo?wait=result", b"{}")
    return Case(
        "cut head",
        (request[: chance.randint(1, request.index(_END))],),
        answers=0,
        leave=chance.choice(("close", "reset", "half")),
    )


def _impatient(chance: Chance) -> Case:
    accept = chance.choice((b"", b"accept: text/event-stream\r\n"))
    path = chance.choice((b"/workflows/slow?wait=result", b"/workflows/slow", b"/agents/chat/ann"))
    request = post(path, b'{"message":"hi"}', _JSON + accept)
    return Case("impatient", (request,), answers=0, leave=chance.choice(("close", "reset", "half")))


def _bytewise(chance: Chance) -> Case:
    request = post(b"/workflows/echo?wait=result", b"[1]", _JSON + b"connection: close\r\n")
    return Case("byte by byte", tuple(request[at : at + 1] for at in range(len(request))))


def _idle(chance: Chance) -> Case:
    return Case("nothing at all", (chance.choice((b"", b"\r\n", b"\r\n\r\n\r\n")),), answers=0, leave="close")


_MAKERS: tuple[Maker, ...] = (
    *(_line, _line, _line, _path, _path, _path, _header, _header, _header, _many_headers),
    *(_body, _body, _body, _encoded, _cut_upload, _announced, _continue, _too_long, _length, _length),
    *(_chunks, _chunks, _cut_chunks, _length_first, _length_first, _chunks_first, _old_chunks),
    *(_pipeline, _long_pipeline, _pipeline_then_noise, _behind_a_stream, _cut_head, _impatient, _bytewise, _idle),
)
