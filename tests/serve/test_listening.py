"""The socket that several processes accept from."""

from __future__ import annotations

import socket

import pytest

from flue.errors import ConfigError
from flue.serve.listening import Shared, listen
from flue.serve.worker import Channel


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_worker_has_the_socket_with_its_protocol_and_asyncio_does_not_change_who_may_wait(host: str) -> None:
    try:
        listening = listen(host, 0)
    except ConfigError:
        pytest.skip("this machine has no such address")
    ours, theirs = socket.socketpair()
    with ours, theirs, listening:
        channel = Channel.inherited(f"{listening.dup().detach()},{theirs.fileno()}")
        with channel.listening() as shared:
            assert isinstance(shared, Shared)
            assert (shared.family, shared.proto) == (listening.family, socket.IPPROTO_TCP)
            assert not shared.get_inheritable()
            shared.listen(0)
            clients = [socket.create_connection(listening.getsockname()[:2], timeout=5) for _ in range(4)]
            for client in clients:
                with client, shared.accept()[0] as accepted:
                    assert accepted.getpeername() == client.getsockname()


@pytest.mark.parametrize("text", ["", "1", "a,b", "1,2,3", "99999,99998"])
def test_a_worker_that_nobody_has_started_says_so(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Channel.inherited(text)
    assert caught.value.code == "invalid_arguments"
