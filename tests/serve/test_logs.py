"""What a server's process writes to stderr."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flue.serve.logs import logging_to_stderr


async def test_a_client_that_leaves_in_the_middle_of_an_answer_is_no_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """asyncio says for each further piece that it could not be sent; everything else that it says is shown."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.transport.is_closing():
            writer.write(b"piece")
            await asyncio.sleep(0)
        for _ in range(20):
            writer.write(b"piece")
        left.set()

    left = asyncio.Event()
    with logging_to_stderr():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
            client.transport.abort()
            await left.wait()
        logging.getLogger("asyncio").warning("a callback took long")
    assert capsys.readouterr().err == "[flue] warning: a callback took long\n"
