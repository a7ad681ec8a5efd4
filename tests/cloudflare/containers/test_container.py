"""What a container's failures mean, what is asked of its object, and what is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from flue.cloudflare.container.sandbox import ContainerSandbox
from flue.cloudflare.container.shell import ContainerShell
from flue.cloudflare.container.stub import StubError
from flue.errors import SandboxError
from tests.cloudflare.containers.control_server import ControlServer
from tests.cloudflare.containers.fake_stub import FakeStub


@pytest.fixture
def server() -> Iterator[ControlServer]:
    server = ControlServer()
    yield server
    server.close()


class FailingStub:
    """An object whose methods all raise one error."""

    def __init__(self, *error: str) -> None:
        self.error = error

    async def call(self, method: str, *arguments: Any) -> Any:
        raise StubError(*self.error)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        if self.error:
            raise StubError(*self.error)
        yield b""


def box(stub: Any, cwd: Path | str = "/", **options: Any) -> ContainerSandbox:
    return ContainerSandbox(stub, 'Container "ann"', str(cwd), options)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            (
                "Error",
                "Containers have not been enabled for this Durable Object class. Have you correctly setup …",
            ),
            "sandbox_without_container",
        ),
        (("Error", "no such image available named box:1"), "sandbox_without_container"),
        (
            ("Error", "There is no Container instance available at this time.\nThis is likely because …"),
            "sandbox_busy",
        ),
        (("ContainerUnavailableError", "The container is starting", "CONTAINER_UNAVAILABLE"), "sandbox_busy"),
        (("SandboxError", "HTTP error! status: 503", "UNKNOWN_ERROR"), "sandbox_busy"),
        (("Error", "you are requesting too many containers per second"), "sandbox_busy"),
        (("Error", "Network connection lost."), "sandbox_interrupted"),
        (("TypeError", "Durable Object reset because its code was updated."), "sandbox_interrupted"),
        (("SandboxError", "HTTP error! status: 500", "UNKNOWN_ERROR"), "sandbox_interrupted"),
        (("SessionTerminatedError", "Session 's' has ended", "SESSION_TERMINATED"), "sandbox_interrupted"),
        (("RPCTransportError", "peer closed", "RPC_TRANSPORT_ERROR"), "sandbox_interrupted"),
        (("TypeError", 'The RPC receiver does not implement the method "exec".'), "sandbox_error"),
        (("Error", "something new"), "sandbox_error"),
    ],
)
async def test_failures_of_the_platform_have_a_code_and_a_next_step(error: tuple[str, ...], code: str) -> None:
    stub = FailingStub(*error)
    shell = ContainerShell(stub, 'Container "ann"')
    for work in (
        box(stub).create_session_env(id="x"),
        box(stub).call("destroy"),
        shell.run("true", brief=False),
        shell.download("/file"),
        shell.upload("/file", b""),
    ):
        with pytest.raises(SandboxError, match='Container "ann"') as caught:
            await work
        assert caught.value.code == code
        assert caught.value.hint
        assert error[1] in caught.value.message


async def test_a_stream_that_breaks_off_is_an_interruption(server: ControlServer) -> None:
    stub = FakeStub(server, sessions_only=True)

    async def broken(method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        yield b'data: {"type": "stdout", "data": "half'

    stub.stream = broken  # type: ignore[method-assign]
    with pytest.raises(SandboxError, match="was interrupted") as caught:
        await ContainerShell(stub, "Container").run("true", brief=False)
    assert caught.value.code == "sandbox_interrupted"
    assert caught.value.hint


async def test_an_error_in_the_stream_is_told(server: ControlServer) -> None:
    stub = FakeStub(server, sessions_only=True)

    async def failing(method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        yield b'data: {"type": "error", "error": "disk on fire"}\n\n'

    stub.stream = failing  # type: ignore[method-assign]
    with pytest.raises(SandboxError, match="disk on fire"):
        await ContainerShell(stub, "Container").run("true", brief=False)


async def test_options_are_told_to_the_object_before_anything_else(server: ControlServer, tmp_path: Path) -> None:
    stub = FakeStub(server)
    await box(stub, tmp_path, sleepAfter="1h").create_session_env(id="x")
    assert stub.called[0] == ("configure", ({"sleepAfter": "1h"},))


async def test_a_missing_working_directory_is_an_error_at_the_start(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="has no directory") as caught:
        await box(FakeStub(server), tmp_path / "missing").create_session_env(id="x")
    assert caught.value.code == "missing_directory"


async def test_nothing_creates_or_destroys_the_container(server: ControlServer, tmp_path: Path) -> None:
    stub = FakeStub(server)
    env = await box(stub, tmp_path).create_session_env(id="x")
    await env.write_file("file", "kept")
    await env.exec("true")
    await env.close()
    assert {method for method, _ in stub.called} == {"execWithSessionToken"}


# SBX-16
async def test_variables_of_a_command_are_in_no_command_that_the_container_logs(
    server: ControlServer, tmp_path: Path
) -> None:
    for sessions_only in (False, True):
        env = await box(FakeStub(server, sessions_only=sessions_only), tmp_path).create_session_env(id="x")
        result = await env.exec('printf %s "$KEY"', env={"KEY": "canary\n 7"})
        assert result.stdout == "canary\n 7"
    assert not [body for _, body in server.asked if "canary" in str(body.get("command"))]


async def test_a_command_that_ends_its_shell_ends_nobody_elses(server: ControlServer, tmp_path: Path) -> None:
    env = await box(FakeStub(server, sessions_only=True), tmp_path).create_session_env(id="x")
    assert (await env.exec("exit 3")).exit_code == 3
    assert (await env.exec("kill -9 $$")).exit_code == 137
    await env.write_file("file", "x")
    assert (await env.exec("cat file")).stdout == "x"


async def test_other_methods_of_the_object_can_be_called(server: ControlServer) -> None:
    stub = FakeStub(server)
    assert await box(stub).call("configure", {}) is None
    with pytest.raises(SandboxError, match="does not implement"):
        await box(stub).call("exposePort", 8080)


async def test_a_container_that_started_anew_is_known_to_have_other_files(
    server: ControlServer, tmp_path: Path, seen: Path
) -> None:
    async def is_new(id: str) -> bool:
        env = await box(FakeStub(server), tmp_path).create_session_env(id=id)
        return bool(env.sandbox.ephemeral)  # type: ignore[attr-defined]

    assert [await is_new(id) for id in ("ann", "ann", "bob", "bob")] == [True, False, True, False]
    for marker in seen.iterdir():
        marker.unlink()
    assert [await is_new("ann"), await is_new("ann")] == [True, False]
