"""A WebSocket connection that takes no more from a client than the client takes from it."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, without what a client could do to it.

    A handshake that the WebSocket library cannot read (another method than GET, a body, more than 128 headers, one of
    more than 8 KB) is answered with 400 instead of nothing. While the client does not read, nothing is read from it:
    each ping is answered, and the answers would heap up. Text that is not UTF-8 closes the connection with 1007 and is
    not logged.
    """

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client's."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_REFUSAL)
            self.transport.close()
        elif not self.writable.is_set():
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        """Take a message of the application's. A refusal completes the handshake; uvicorn would log an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def send_500_response(self) -> None:
        """Refuse a handshake that the application has not answered; it may be about to, and finds the client gone.

        uvicorn would answer it twice, and fail over that: whoever comes in the moment in which the server ends.
        """
        refused = not self.handshake_complete and self.initial_response is None
        super().send_500_response()
        if refused:
            self.handshake_complete = self.disconnected = True

    def resume_writing(self) -> None:
        """Go on, also with reading, where no message waits to be read."""
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment. Empty ones have no limit otherwise."""
        if event.data or event.fin:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hand on a message that is complete, unless it is no text although it says so."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()
