from __future__ import annotations

import pytest

from flue.definitions.tool import ToolContext
from flue.errors import SandboxError, UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.bash import bash_tool, format_output
from flue.messages import TextContent
from flue.ports import ExecResult
from flue.sandboxes.virtual_sandbox import virtual
from tests.harness.memory_sandbox import Command, MemorySandbox
from tests.harness.tools.use import text_of, use


def answering(stdout: str = "", stderr: str = "", exit_code: int = 0) -> tuple[SessionEnv, MemorySandbox]:
    sandbox = MemorySandbox(script=lambda command: ExecResult(stdout, stderr, exit_code))
    return SessionEnv(sandbox, "/workspace"), sandbox


async def test_output_and_exit_code_of_a_real_command_are_told(shell_env: SessionEnv) -> None:
    result = await use(shell_env, "bash", command="echo out; echo err >&2; exit 3")
    assert result.content == (TextContent("out\n\nerr\n\nCommand exited with code 3"),)
    assert result.details == {"command": "echo out; echo err >&2; exit 3", "exitCode": 3}
    assert not result.is_error


async def test_files_stay_between_commands_but_the_directory_does_not(shell_env: SessionEnv) -> None:
    await use(shell_env, "bash", command="mkdir d && cd d && export A=1 && echo x > f")
    assert await text_of(shell_env, "bash", command='pwd; cat d/f; echo "[$A]"') == f"{shell_env.cwd}\nx\n[]"


async def test_a_command_that_takes_too_long_ends_with_code_124(shell_env: SessionEnv) -> None:
    result = await use(shell_env, "bash", command="echo begun; sleep 20", timeout=0.3)
    assert result.details["exitCode"] == 124
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert "timed out after 0.3 seconds" in block.text
    assert block.text.endswith("Command exited with code 124")


async def test_a_command_without_output_says_so() -> None:
    env, _ = answering("\n  \n")
    assert await text_of(env, "bash", command="true") == "(no output)"
    env, _ = answering("", "", 1)
    assert await text_of(env, "bash", command="false") == "(no output)\n\nCommand exited with code 1"


@pytest.mark.parametrize(("given", "passed_on"), [("5", 5), (None, None), (0, None), (1.5, 1.5)])
async def test_a_timeout_is_passed_on_and_zero_means_none(given: object, passed_on: float | None) -> None:
    env, sandbox = answering()
    await use(env, "bash", command="x", timeout=given)
    assert sandbox.commands == [Command("x", "/workspace", None, None, passed_on)]


async def test_a_negative_timeout_is_refused() -> None:
    env, _ = answering()
    with pytest.raises(UsageError, match="positive"):
        await use(env, "bash", command="x", timeout=-1)


async def test_a_failure_of_the_sandbox_itself_is_an_error() -> None:
    def fail(command: Command) -> ExecResult:
        raise SandboxError("the container is gone")

    with pytest.raises(SandboxError, match="the container is gone"):
        await use(SessionEnv(MemorySandbox(script=fail), "/"), "bash", command="x")


async def test_of_long_output_the_end_is_shown_and_all_of_it_kept() -> None:
    output = "".join(f"{number}\n" for number in range(1, 3001))
    env, sandbox = answering(output, "", 2)
    text = await text_of(env, "bash", command="seq")
    assert text.startswith("1001\n1002\n")
    assert text.endswith(
        "\n3000\n\n[Output truncated: showing lines 1001-3000 of 3000. All of it is in /tmp/flue/default-call_1.log.]"
        "\n\nCommand exited with code 2"
    )
    assert sandbox.files == {"/tmp/flue/default-call_1.log": output.strip().encode()}


async def test_output_of_the_longest_size_is_shown_whole_and_not_kept() -> None:
    env, sandbox = answering("x" * 51_200 + "\n")
    assert await text_of(env, "bash", command="x") == "x" * 51_200
    assert sandbox.files == {}


async def test_an_over_long_last_line_keeps_its_end() -> None:
    env, _ = answering("first\n" + "ä" * 40_000 + "end")
    shown, note = (await text_of(env, "bash", command="x")).split("\n\n")
    assert shown.endswith("äend")
    assert 51_199 <= len(shown.encode()) <= 51_200
    assert note.startswith("[Output truncated: showing the last 51200 bytes of line 2, the last one. All of it is in ")


async def test_the_kept_output_can_be_read_in_the_virtual_sandbox() -> None:
    env = await virtual().create_session_env(id="test")
    text = await text_of(env, "bash", command="seq 1 2500")
    assert "All of it is in /tmp/flue/default-call_1.log.]" in text
    assert await text_of(env, "bash", command="head -n 2 /tmp/flue/default-call_1.log") == "1\n2"


async def test_the_name_of_the_kept_file_is_safe_whatever_the_call_is_called() -> None:
    env, sandbox = answering("y\n" * 3_000)
    await bash_tool(env).run({"command": "x"}, ToolContext("../../etc/x'; rm -rf /\n" * 9, "a/b", env, {}))
    (path,) = sandbox.files
    assert path.startswith("/tmp/flue/a-b-etc-x-rm-rf-")
    assert path.count("/") == 3
    assert len(path) < 200


async def test_output_that_cannot_be_kept_is_still_shown() -> None:
    env, sandbox = answering("y\n" * 3_000)
    sandbox.read_only = True
    assert "The whole output could not be kept" in await text_of(env, "bash", command="x")


def test_a_command_run_by_the_application_is_shown_in_the_same_form() -> None:
    shown = format_output("x", ExecResult("y\n" * 3_000, "", 0)).content[0]
    assert isinstance(shown, TextContent)
    assert shown.text.endswith("[Output truncated: showing lines 1001-3000 of 3000.]")


async def test_what_the_sandbox_says_of_itself_stands_in_the_description() -> None:
    env = await virtual().create_session_env(id="test")
    assert bash_tool(env).description.endswith(env.sandbox.description)  # type: ignore[attr-defined]
    assert bash_tool(SessionEnv(MemorySandbox(), "/")).description.endswith(
        "a note names the file that holds all of it."
    )
