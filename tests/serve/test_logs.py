"""What a server's process writes to stderr."""

from __future__ import annotations

import asyncio
import io
import logging
import sys

import pytest

from flue.serve.logs import logging_to_stderr, say


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


class Pieces(io.StringIO):
    """Standard error without a buffer, as with PYTHONUNBUFFERED: what each call writes goes out by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        """Write a piece."""
        self.written.append(text)
        return len(text)


def test_lines_of_several_processes_do_not_mix_as_each_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = Pieces()
    monkeypatch.setattr(sys, "stderr", pieces)
    say("One.")
    with logging_to_stderr():
        logging.getLogger("flue").warning("Two.")
    assert pieces.written == ["[flue] One.\n", "[flue] warning: Two.\n"]
