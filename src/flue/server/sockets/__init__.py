"""WebSocket protocol version 1.

`agent` and `workflow` are the protocol as state machines without I/O, for whoever holds the connection; `asgi` holds
it in a server. A Durable Object, which may be evicted between two messages, keeps a machine's `attachment()` and goes
on with `restore`.
"""
