"""WebSocket protocol version 1.

`agent` and `workflow` are the protocol as state machines without I/O; `connection` does what they say and follows the
work, for whoever holds the socket: `asgi` in a server, `flue.cloudflare.sockets` in a Durable Object. That one may be
evicted between two messages, keeps a machine's `attachment()`, and goes on with `restore`.
"""
