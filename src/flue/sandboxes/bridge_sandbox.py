"""`cloudflare_bridge()`: containers on Cloudflare for agents that run elsewhere, over HTTP.

The bridge is a Worker of `@cloudflare/sandbox/bridge` (0.12.10) with these routes: `exec` runs a command and streams
what it prints as base64, `file` reads and writes below `/workspace` only. Content that is to go elsewhere, or must not
be logged with the commands, passes through a file there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flue.certificates import trusted
from flue.errors import DefinitionError, SandboxError
from flue.harness.env import SessionEnv
from flue.sandboxes.remote_sandbox import CONTAINER, open_remote
from flue.sandboxes.remote_shell import ask, new_token
from flue.sse import EventParser

if TYPE_CHECKING:
    import httpx2

DEFAULT_CWD = "/workspace"
_ID = re.compile(r"[a-z2-7]{1,128}\Z")
_HINTS: dict[str | None, str] = {
    "sandbox_busy": "Try again in a moment; raise max_instances of the bridge's Worker if it goes on.",
    "sandbox_interrupted": "Whether the last command went on is unknown. Another container has only its image's files.",
}
_LOOK = "npx wrangler tail shows the log of the bridge's Worker."
# A container may have to start first.
_BRIEF_SECONDS = 180.0


def cloudflare_bridge(url: str, id: str, *, api_key: str, cwd: str = DEFAULT_CWD) -> CloudflareBridge:
    """Return the container named `id` behind the bridge at `url`, for an agent's `sandbox=`.

    The bridge gives every id a container when it is first used, and another one when that was stopped. Ids have 1 to
    128 of the characters a-z and 2-7; of any other text, an agent instance's id for example, a hash is taken, always
    the same. `api_key` is the bridge's `SANDBOX_API_KEY`. `cwd` is where commands start.

    Raises `DefinitionError` for an impossible URL or key. Needs the package httpx2, which Flue brings.
    """
    given: dict[str, object] = {"url": url, "id": id, "api_key": api_key}
    for what, value in given.items():
        if not (isinstance(value, str) and value):
            raise DefinitionError(
                f"cloudflare_bridge(): {what} must be text that is not empty.",
                hint="The address of the bridge, the agent's ctx.id, the bridge's SANDBOX_API_KEY.",
            )
    if not url.startswith(("https://", "http://")):
        raise DefinitionError(
            f"cloudflare_bridge(): {url!r} is no address.", hint="For example https://box.example.com."
        )
    return CloudflareBridge(url.rstrip("/"), id if _ID.match(id) else _hashed(id), api_key, cwd)


class CloudflareBridge:
    """A container behind a bridge, as an agent's `sandbox` (SBX-18). Built by `cloudflare_bridge()`.

    Nothing here creates or destroys it.
    """

    def __init__(self, url: str, id: str, api_key: str, cwd: str) -> None:
        self._url = f"{url}/v1/sandbox/{id}"
        self._api_key = api_key
        self._cwd = cwd

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment, once the container runs. Raises `SandboxError`."""
        import httpx2

        headers = {"authorization": f"Bearer {self._api_key}"}
        client = httpx2.AsyncClient(headers=headers, timeout=_BRIEF_SECONDS, verify=trusted())
        try:
            shell = BridgeShell(client, self._url)
            return await open_remote(shell, CONTAINER, id=id, cwd=self._cwd, on_close=client.aclose)
        except BaseException:
            await client.aclose()
            raise

    def __repr__(self) -> str:
        return f"cloudflare_bridge({self._url!r})"


class BridgeShell:
    """Implements `RemoteShell` over the routes of one container."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    @property
    def title(self) -> str:
        """Return the container as messages name it."""
        return f"Container {self._url}"

    async def run(self, script: str, *, env: Mapping[str, str] | None = None, brief: bool = True) -> str:
        """Run a script and return what it wrote to stdout."""
        if env:
            # Commands are logged over there.
            file = await self._put("".join(f"export {name}={shlex.quote(env[name])}\n" for name in env).encode())
            script = f". {file}; rm -f {file}\n{script}"
        import httpx2

        body = {"argv": ["bash", "-c", script]}
        timeout = httpx2.Timeout(_BRIEF_SECONDS, read=_BRIEF_SECONDS if brief else None)
        try:
            async with self._client.stream("POST", f"{self._url}/exec", json=body, timeout=timeout) as response:
                await self._check(response)
                return await self._printed(response)
        except httpx2.HTTPError as error:
            raise self._broken(error) from error

    async def download(self, path: str) -> bytes:
        """Return a regular file."""
        file = f"{DEFAULT_CWD}/.flue-{new_token()}"
        # Text comes through as it is; what else a file may be is guessed over there.
        await ask(self, f'base64 -w0 -- "$p" >{file}', path)
        content = await self._ask("GET", f"/file{file}")
        await ask(self, 'rm -f -- "$p"', file)
        return base64.b64decode(content)

    async def upload(self, path: str, content: bytes) -> None:
        """Write a file whose directory exists."""
        file = await self._put(content)
        await ask(self, f'cat <{file} >"$p"; said=$?; rm -f {file}; exit $said', path)

    async def _put(self, content: bytes) -> str:
        file = f"{DEFAULT_CWD}/.flue-{new_token()}"
        await self._ask("PUT", f"/file{file}", content)
        return file

    async def _ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        import httpx2

        try:
            response = await self._client.request(method, f"{self._url}{path}", content=content)
        except httpx2.HTTPError as error:
            raise self._broken(error) from error
        await self._check(response)
        return response.content

    async def _printed(self, response: httpx2.Response) -> str:
        parser, printed = EventParser(), bytearray()
        async for chunk in response.aiter_bytes():
            for name, data, _ in parser.feed(chunk):
                match name:
                    case b"stdout":
                        printed += base64.b64decode(data)
                    case b"error":
                        raise self._error(json.loads(data).get("error"), "sandbox_interrupted")
                    case b"exit":
                        return printed.decode("utf-8", errors="replace")
        raise self._error("The answer broke off.", "sandbox_interrupted")

    async def _check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        try:
            said: Any = json.loads(await response.aread())["error"]
        except (ValueError, KeyError, TypeError):
            said = f"HTTP status {response.status_code}"
        if response.status_code in (401, 403):
            hint = "Compare api_key with the SANDBOX_API_KEY of the bridge's Worker."
            raise SandboxError(f"{self.title} was refused: {said}", hint=hint)
        code = {429: "sandbox_busy", 503: "sandbox_busy", 502: "sandbox_interrupted"}.get(response.status_code)
        raise self._error(said, code)

    def _broken(self, error: httpx2.HTTPError) -> SandboxError:
        return self._error(f"{type(error).__name__} {error}".strip(), "sandbox_interrupted")

    def _error(self, said: object, code: str | None) -> SandboxError:
        return SandboxError(f"{self.title} failed: {said}", code=code, hint=_HINTS.get(code, _LOOK))


def _hashed(id: str) -> str:
    return base64.b32encode(hashlib.sha256(id.encode()).digest()[:16]).decode("ascii").rstrip("=").lower()
