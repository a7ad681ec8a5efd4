"""The base of the wire adapters: one request, one streamed answer.

    ModelRequest → body (spliced bytes) → HttpTransport → events → Decoder → deltas … AssistantMessage

An adapter adds three things: an `Encoder` (history and tools), `body`, and a `Decoder`. Nothing here retries: the
harness does, once, for every provider.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from flue import sse
from flue.errors import ProviderError
from flue.messages import AssistantMessage, Json, ToolSpecs, Transcript
from flue.models.answer import Answer
from flue.models.compat import Compat
from flue.models.encoding import Encoder, encoded_tools, history_for
from flue.models.failures import broken_stream, error_text, event_failure, http_failure
from flue.ports import Delta, HttpResponse, HttpTransport, ModelInfo, ModelRequest

READ_TIMEOUT = 600.0  # seconds of silence; a model may think this long without a sign
DRAIN_TIMEOUT = 0.25  # seconds to wait for the end of a stream that has said everything, to keep its connection
USER_AGENT = "flue-agents"
SECRET_LENGTH = 8  # shorter header values are not worth hiding and would mangle messages


class WireEncoder(Encoder[Any], ABC):
    """An `Encoder` that also encodes the tools of a request."""

    @abstractmethod
    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the wire array of tools, brackets included. Called once per `ToolSpecs` object."""


class Decoder(ABC):
    """Turns one stream's events into an `Answer`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.done = False  # set when the protocol's last event has been seen: reading stops
        self.ended = False  # set when the stream ended with the mark "[DONE]"

    @abstractmethod
    def feed(self, event: Json) -> None:
        """Take one event. May raise `ProviderError`; `KeyError`, `TypeError` and the like mean an unreadable event."""

    def is_complete(self) -> bool:
        """Say whether the answer was complete if the stream ends now."""
        return self.done


class WireModel(ABC):
    """A model behind a wire protocol. Keeps no conversation; safe to share between sessions."""

    api: ClassVar[str]

    def __init__(
        self,
        info: ModelInfo,
        transport: HttpTransport,
        *,
        base_url: str,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        compat: Compat | None = None,
    ) -> None:
        self._info = info
        self.transport = transport
        self.base_url = base_url.rstrip("/")
        self.api_key = api_key
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.compat = compat or Compat()
        self.key = (self.api, info, self.compat)
        self.encoder = self.make_encoder()

    @property
    def info(self) -> ModelInfo:
        """Return what is known of the model."""
        return self._info

    @abstractmethod
    def make_encoder(self) -> WireEncoder:
        """Return the encoder for this target."""

    @abstractmethod
    def url(self) -> str:
        """Return the address to post to."""

    @abstractmethod
    def auth(self, api_key: str) -> Mapping[str, str]:
        """Return the headers, in lower case, that carry the API key in this protocol."""

    @abstractmethod
    def body(self, request: ModelRequest) -> bytes:
        """Return the request body; use `messages` and `tools` for the spliced parts."""

    @abstractmethod
    def decoder(self, answer: Answer) -> Decoder:
        """Return a decoder for one answer."""

    def extra_headers(self, request: ModelRequest) -> Mapping[str, str]:
        """Return further headers, in lower case, for this request."""
        return {}

    def messages(self, transcript: Transcript) -> tuple[bytearray, bytes]:
        """Return the conversation as comma-separated wire messages, in two pieces for `b"".join`."""
        return history_for(transcript, self.key, self._info, self.encoder).render(transcript)

    def tools(self, tools: ToolSpecs) -> bytes:
        """Return the wire array of tools."""
        return encoded_tools(tools, self.key, self.encoder)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        """Send the request; yield deltas, then the whole answer. Raises `ProviderError`."""
        response = await self.transport.send(
            "POST",
            self.url(),
            headers=self._request_headers(request),
            content=self.body(request),
            read_timeout=READ_TIMEOUT,
        )
        try:
            await self._check(response)
            answer = Answer(self._info)
            stream = _Stream(self, self.decoder(answer))
            chunks = aiter(response.aiter_bytes())
            while not stream.over:
                stream.take(await anext(chunks, None))
                for delta in answer.out:
                    yield delta
                answer.out.clear()
            stream.check()
            message = answer.message()
            for delta in answer.out:
                yield delta
            await _drain(chunks)
            yield message
        finally:
            await response.aclose()

    def _request_headers(self, request: ModelRequest) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # compressing tiny events costs more than it saves, and delays them
            "user-agent": USER_AGENT,
        }
        headers.update(self.extra_headers(request))
        if self.api_key:
            match self.compat.auth:
                case "bearer":
                    headers["authorization"] = f"Bearer {self.api_key}"
                case "cloudflare-gateway":
                    headers["cf-aig-authorization"] = f"Bearer {self.api_key}"
                case "protocol":
                    headers.update(self.auth(self.api_key))
        headers.update(self.headers)
        return headers

    async def _check(self, response: HttpResponse) -> None:
        """Raise unless the answer is a stream of events."""
        provider = self._info.provider
        if response.status != 200:
            raise self.redacted(http_failure(provider, response.status, response.headers, await response.aread()))
        kind = response.headers.get("content-type", "").lower()
        if "html" in kind or "json" in kind:
            text, what = error_text(body := await response.aread())
            if "json" in kind and b'"error"' in body:
                raise self.redacted(event_failure(provider, {"message": text, "type": what}))
            did = f"answered with {kind} instead of a stream: {text}."
            raise self.redacted(broken_stream(provider, did, f"Check the base URL of provider {provider!r}."))

    def redacted(self, error: ProviderError) -> ProviderError:
        """Take the API key and header values out of what the provider echoed."""
        for secret in (self.api_key, *self.headers.values()):
            if secret and len(secret) >= SECRET_LENGTH:
                error.message = error.message.replace(secret, "[secret]")
        error.args = (error.message,)
        return error


_read = json.JSONDecoder().raw_decode


def _loads(data: bytes) -> Any:
    """Read JSON as `json.loads` does, which spends half its time on guessing the encoding and on blanks around."""
    text = data.decode()
    try:
        value, end = _read(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


class _Stream:
    """Reads one event stream into a decoder. What goes wrong waits in `check`, behind the deltas that came before."""

    def __init__(self, model: WireModel, decoder: Decoder) -> None:
        self._model = model
        self._decoder = decoder
        self._parser = sse.EventParser()
        self._failure: ProviderError | None = None
        self.over = False

    def take(self, chunk: bytes | None) -> None:
        """Decode the next bytes; None is the end of the stream."""
        try:
            if chunk is None:
                self.over = True
                self._decode(self._parser.close())
            else:
                self._decode(self._parser.feed(chunk))
        except ProviderError as error:
            self._failure = self._model.redacted(error)
            self.over = True
        except sse.EventTooLongError as error:
            self._failure = ProviderError(str(error), code="provider_stream")
            self.over = True

    def check(self) -> None:
        """Raise what went wrong, or that the stream ended too early."""
        if self._failure is not None:
            raise self._failure
        if not self._decoder.is_complete():
            raise broken_stream(self._model.info.provider, "ended its stream before the answer was complete.")

    def _decode(self, events: list[sse.Event]) -> None:
        decoder = self._decoder
        try:
            for name, data, _ in events:
                if data == b"[DONE]":
                    self.over = decoder.ended = True
                    return
                event = _loads(data)
                if name == b"error" or event.get("error"):
                    raise event_failure(self._model.info.provider, event.get("error") or event)
                decoder.feed(event)
                if decoder.done:
                    self.over = True
                    return
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise broken_stream(self._model.info.provider, "sent an event that cannot be read.") from error


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end, so that the connection can be used again; give up soon on a host that keeps it open."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in chunks:
                pass
    except (TimeoutError, ProviderError):
        return
