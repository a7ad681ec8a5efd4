"""What every `Sandbox` must do, as a test class to subclass.

    class TestMySandbox(SandboxConformance):
        async def open_env(self, directory: Path) -> SessionEnv:
            return SessionEnv(MySandbox(...), "/workspace")

Each test gets an environment of its own whose working directory exists and is empty. Needs pytest and pytest-asyncio,
and bash or a POSIX shell with cat, head, printf, seq, sleep, tr and wc in the sandbox.
"""

# ruff: noqa: D102  (the names of the tests are sentences)

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest

from flue.errors import SandboxError
from flue.harness.env import SessionEnv

EVERY_BYTE = bytes(range(256))
AWKWARD_NAMES = (
    "with space",
    " leading and trailing ",
    "quote'single",
    'quote"double',
    "$HOME",
    "`echo`",
    "$(echo)",
    "-rf",
    "--help",
    "back\\slash",
    "star*",
    "question?",
    "[brackets]",
    "semi;colon",
    "amper&sand",
    "#comment",
    "~",
    "!",
    "naïve",
    "日本語.txt",
    "e\u0301",
    "😀",
    ".hidden",
    "..two-dots",
)


def quoted(text: str) -> str:
    """Return the text as one word of a shell command."""
    return "'" + text.replace("'", "'\\''") + "'"


async def fails(work: Awaitable[object], name: str) -> OSError:
    """Return the `OSError` that the work ends with, having checked that its message holds `name`."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the tests look at the subclass
        await work
    assert name in str(caught.value), f"the message does not name the path: {caught.value}"
    return caught.value


@pytest.mark.asyncio
class SandboxConformance:
    """The contract of `flue.ports.Sandbox`. A subclass says how an environment is opened.

    `grace` is how many seconds after its timeout or its abort a command must have ended. `synchronous` says that
    commands run in one go, in the caller's thread: nothing can abort them, or happen while they run.
    """

    grace = 3.0
    synchronous = False

    async def open_env(self, directory: Path) -> SessionEnv:
        """Return a new environment with an empty working directory. `directory` is the test's own, on the host."""
        raise NotImplementedError

    async def reopen_env(self, env: SessionEnv) -> SessionEnv:
        """Return a new environment over the same provider resource, as a later request would open it."""
        return SessionEnv(env.sandbox, env.cwd)

    @pytest.fixture
    async def env(self, tmp_path: Path) -> SessionEnv:
        """Open the environment of a test."""
        return await self.open_env(tmp_path)

    # 1, 2, 3: content

    @pytest.mark.parametrize(
        "text",
        ["", "plain\n", "no newline at the end", "naïve 日本語 😀 e\u0301", "a\0b\0", "\r\n\t\u2028", "\ufeffbom"],
    )
    async def test_text_is_read_as_it_was_written(self, env: SessionEnv, text: str) -> None:
        await env.write_file("file.txt", text)
        assert await env.read_file("file.txt") == text
        assert (await env.stat("file.txt")).size == len(text.encode())

    async def test_every_byte_comes_back(self, env: SessionEnv) -> None:
        content = EVERY_BYTE * 400
        await env.write_file("file.bin", content)
        assert await env.read_file_buffer("file.bin") == content

    async def test_commands_see_the_bytes_of_files_and_files_those_of_commands(self, env: SessionEnv) -> None:
        await env.write_file("in.bin", EVERY_BYTE)
        result = await env.exec("cat in.bin in.bin > out.bin; wc -c < out.bin")
        assert result.stdout.strip() == "512"
        assert await env.read_file_buffer("out.bin") == EVERY_BYTE * 2

    async def test_a_file_is_replaced_as_a_whole(self, env: SessionEnv) -> None:
        await env.write_file("file.txt", "a long first version")
        await env.write_file("file.txt", "short")
        assert await env.read_file("file.txt") == "short"

    async def test_writing_creates_the_parents(self, env: SessionEnv) -> None:
        await env.write_file("a/b/c/file.txt", "deep")
        assert await env.read_file("a/b/c/file.txt") == "deep"
        assert (await env.stat("a/b")).is_directory

    async def test_writing_to_a_directory_or_below_a_file_is_an_error(self, env: SessionEnv) -> None:
        await env.mkdir("folder")
        await env.write_file("file", "x")
        assert isinstance(await fails(env.write_file("folder", "x"), "folder"), IsADirectoryError)
        assert isinstance(await fails(env.write_file("file/below", "x"), "below"), NotADirectoryError)
        assert isinstance(await fails(env.write_file("file/far/below", "x"), "below"), NotADirectoryError)
        assert await env.read_file("file") == "x"

    async def test_reading_what_is_missing_or_a_directory_is_an_error(self, env: SessionEnv) -> None:
        await env.mkdir("folder")
        assert isinstance(await fails(env.read_file("missing.txt"), "missing.txt"), FileNotFoundError)
        assert isinstance(await fails(env.read_file("no/such/folder"), "no/such/folder"), FileNotFoundError)
        assert isinstance(await fails(env.read_file("folder"), "folder"), IsADirectoryError)

    async def test_a_file_of_several_megabytes_comes_back(self, env: SessionEnv) -> None:
        content = (EVERY_BYTE * 4 + b"\n") * 4000
        await env.write_file("large.bin", content)
        assert await env.read_file_buffer("large.bin") == content

    # 4, 5, 6: looking

    async def test_stat_tells_files_directories_and_links_apart(self, env: SessionEnv) -> None:
        await env.write_file("file", "12345")
        await env.mkdir("folder")
        assert (await env.exec("ln -s file link; ln -s nowhere dangling")).exit_code == 0
        file, folder = await env.stat("file"), await env.stat("folder")
        assert (file.is_file, file.is_directory, file.is_symbolic_link, file.size) == (True, False, False, 5)
        assert (folder.is_file, folder.is_directory, folder.is_symbolic_link) == (False, True, False)
        for name in ("link", "dangling"):
            found = await env.stat(name)
            assert (found.is_file, found.is_directory, found.is_symbolic_link) == (False, False, True)

    async def test_stat_of_what_is_missing_names_it(self, env: SessionEnv) -> None:
        assert isinstance(await fails(env.stat("missing"), "missing"), FileNotFoundError)

    async def test_links_are_followed_when_reading_writing_and_listing(self, env: SessionEnv) -> None:
        await env.write_file("folder/file", "old")
        assert (await env.exec("ln -s folder there; ln -s folder/file link; ln -s ../folder folder/up")).exit_code == 0
        assert await env.read_file("link") == "old"
        assert await env.read_file("there/up/up/file") == "old"
        assert await env.readdir("there") == ["file", "up"]
        await env.write_file("link", "new")
        await env.write_file("there/second", "2")
        assert await env.read_file("folder/file") == "new"
        assert await env.read_file("folder/second") == "2"
        assert (await env.stat("link")).is_symbolic_link

    async def test_a_circle_of_links_is_an_error(self, env: SessionEnv) -> None:
        await env.exec("ln -s b a; ln -s a b")
        await fails(env.read_file("a"), "a")
        assert not await env.exists("a")

    async def test_readdir_gives_all_names_sorted(self, env: SessionEnv) -> None:
        for name in ("b", ".hidden", "a", "Z"):
            await env.write_file(f"folder/{name}", "")
        await env.mkdir("folder/sub")
        assert await env.readdir("folder") == [".hidden", "Z", "a", "b", "sub"]
        assert await env.readdir(".") == ["folder"]

    async def test_readdir_of_what_is_no_directory_is_an_error(self, env: SessionEnv) -> None:
        await env.write_file("file", "")
        assert isinstance(await fails(env.readdir("missing"), "missing"), FileNotFoundError)
        assert isinstance(await fails(env.readdir("file"), "file"), NotADirectoryError)

    async def test_exists_answers_and_never_raises(self, env: SessionEnv) -> None:
        await env.write_file("file", "")
        await env.mkdir("folder")
        await env.exec("ln -s nowhere dangling")
        names = ("file", "folder", "missing", "file/below", "dangling", "x" * 5000)
        assert [await env.exists(name) for name in names] == [True, True, False, False, False, False]

    # 7, 8: directories

    async def test_mkdir_makes_one_directory(self, env: SessionEnv) -> None:
        await env.mkdir("folder")
        assert isinstance(await fails(env.mkdir("folder"), "folder"), FileExistsError)
        assert isinstance(await fails(env.mkdir("no/parent"), "no/parent"), FileNotFoundError)

    async def test_recursive_mkdir_makes_parents_and_may_be_repeated(self, env: SessionEnv) -> None:
        await env.mkdir("a/b/c", recursive=True)
        await env.mkdir("a/b/c", recursive=True)
        await env.mkdir(".", recursive=True)
        assert await env.readdir("a/b") == ["c"]

    async def test_mkdir_over_a_file_is_an_error(self, env: SessionEnv) -> None:
        await env.write_file("file", "x")
        assert isinstance(await fails(env.mkdir("file"), "file"), FileExistsError)
        assert isinstance(await fails(env.mkdir("file", recursive=True), "file"), FileExistsError)
        assert await env.read_file("file") == "x"

    async def test_rm_removes_a_file(self, env: SessionEnv) -> None:
        await env.write_file("file", "")
        await env.rm("file")
        assert not await env.exists("file")

    async def test_rm_needs_recursive_for_a_directory_even_an_empty_one(self, env: SessionEnv) -> None:
        await env.write_file("full/file", "")
        await env.mkdir("empty")
        for name in ("full", "empty"):
            await fails(env.rm(name), name)
            await fails(env.rm(name, force=True), name)
            assert await env.exists(name)
            await env.rm(name, recursive=True)
        assert await env.readdir(".") == []

    async def test_rm_of_what_is_missing_is_an_error_unless_forced(self, env: SessionEnv) -> None:
        assert isinstance(await fails(env.rm("missing"), "missing"), FileNotFoundError)
        await env.rm("missing", force=True)
        await env.rm("missing/deeper", recursive=True, force=True)

    async def test_rm_of_a_link_keeps_what_it_leads_to(self, env: SessionEnv) -> None:
        await env.write_file("folder/file", "kept")
        await env.exec("ln -s folder there; ln -s folder/file link")
        await env.rm("there", recursive=True)
        await env.rm("link")
        assert await env.readdir(".") == ["folder"]
        assert await env.read_file("folder/file") == "kept"

    # 9, 10: names and paths

    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    async def test_awkward_names_are_just_names(self, env: SessionEnv, name: str) -> None:
        await env.mkdir(name)
        path = f"{name}/{name}"
        await env.write_file(path, name)
        assert await env.readdir(".") == [name]
        assert await env.readdir(name) == [name]
        assert await env.read_file(path) == name
        assert (await env.stat(path)).is_file
        shown = await env.exec(f"cat ./{quoted(path)}")
        assert (shown.stdout, shown.exit_code) == (name, 0)
        await env.rm(path)
        await env.rm(name, recursive=True)
        assert await env.readdir(".") == []

    async def test_a_name_with_a_newline_works_or_is_refused(self, env: SessionEnv) -> None:
        try:
            await env.write_file("two\nlines", "x")
        except OSError:
            assert await env.readdir(".") == []
        else:
            assert await env.readdir(".") == ["two\nlines"]
            assert await env.read_file("two\nlines") == "x"

    async def test_relative_paths_count_from_the_working_directory(self, env: SessionEnv) -> None:
        await env.write_file("a/./b/../file", "x")
        assert await env.read_file(f"{env.cwd}/a/file") == "x"
        assert await env.read_file("a/b/../../a/file") == "x"
        assert await env.scoped("a").read_file("file") == "x"
        assert (await env.exec("cat file", cwd="a")).stdout == "x"

    # 11: commands

    async def test_stdout_and_stderr_are_apart(self, env: SessionEnv) -> None:
        result = await env.exec("echo out; echo err >&2; printf 'no newline'")
        assert (result.stdout, result.stderr, result.exit_code) == ("out\nno newline", "err\n", 0)

    @pytest.mark.parametrize(
        ("command", "status"), [("true", 0), ("false", 1), ("exit 42", 42), ("no-such-thing", 127)]
    )
    async def test_a_non_zero_status_is_a_result(self, env: SessionEnv, command: str, status: int) -> None:
        assert (await env.exec(command)).exit_code == status

    async def test_a_syntax_error_is_a_result(self, env: SessionEnv) -> None:
        result = await env.exec("if true; then")
        assert result.exit_code not in (0, 124)
        assert result.stderr

    async def test_commands_start_in_the_working_directory_or_the_one_given(self, env: SessionEnv) -> None:
        await env.mkdir("sub folder")
        assert (await env.exec("pwd")).stdout == f"{env.cwd}\n"
        assert (await env.exec("pwd", cwd="sub folder")).stdout == f"{env.cwd}/sub folder\n"

    async def test_a_missing_working_directory_is_an_error(self, env: SessionEnv) -> None:
        await env.write_file("file", "")
        assert isinstance(await fails(env.exec("pwd", cwd="missing"), "missing"), FileNotFoundError)
        assert isinstance(await fails(env.exec("pwd", cwd="file"), "file"), NotADirectoryError)

    async def test_files_last_between_commands_and_shell_state_does_not(self, env: SessionEnv) -> None:
        await env.mkdir("sub")
        await env.exec("echo kept > file; cd sub; export GONE=1; lost() { :; }")
        result = await env.exec('cat file; pwd; echo "[$GONE]"; type lost 2>/dev/null || echo no')
        assert result.stdout == f"kept\n{env.cwd}\n[]\nno\n"

    @pytest.mark.parametrize(
        "value", ["plain", "", "two\nlines", 'it\'s "quoted"', "$HOME `id` $(id)", "\\", "naïve 😀"]
    )
    async def test_environment_values_arrive_unchanged(self, env: SessionEnv, value: str) -> None:
        result = await env.exec('printf "[%s]" "$VALUE"', env={"VALUE": value})
        assert result.stdout == f"[{value}]"
        assert (await env.exec('printf "[%s]" "$VALUE"')).stdout == "[]"

    async def test_a_megabyte_of_output_arrives(self, env: SessionEnv) -> None:
        await env.write_file("large.txt", "0123456789abcde\n" * 65_536)
        result = await env.exec("cat large.txt; echo end >&2")
        assert (len(result.stdout), result.stderr) == (1_048_576, "end\n")

    async def test_output_that_is_not_text_does_not_fail(self, env: SessionEnv) -> None:
        await env.write_file("file.bin", b"a\xff\xfeb\n")
        assert (await env.exec("cat file.bin")).stdout == "a\ufffd\ufffdb\n"

    async def test_standard_input_is_empty_unless_given(self, env: SessionEnv) -> None:
        result = await asyncio.wait_for(env.exec("cat; echo end"), 10)
        assert result.stdout == "end\n"

    @pytest.mark.parametrize("stdin", ["", "one line", "two\nlines\n", "naïve 😀 'q' $x", "x" * 300_000])
    async def test_standard_input_reaches_the_command(self, env: SessionEnv, stdin: str) -> None:
        result = await env.exec("cat; exit 3", stdin=stdin)
        assert (result.stdout, result.exit_code) == (stdin, 3)

    async def test_standard_input_may_be_bytes(self, env: SessionEnv) -> None:
        await env.exec("cat > copy.bin", stdin=EVERY_BYTE)
        assert await env.read_file_buffer("copy.bin") == EVERY_BYTE

    async def test_a_script_of_several_lines_reads_its_input(self, env: SessionEnv) -> None:
        script = "read -r first\nfor word in a b; do\n  echo \"$word:$first\"\ndone\ncat <<'EOF'\nhere $first\nEOF\ncat"
        result = await env.exec(script, stdin="one\nrest\n")
        assert result.stdout == "a:one\nb:one\nhere $first\nrest\n"

    # 12, 13, 14: time

    async def test_a_timeout_ends_the_command_and_keeps_its_output(self, env: SessionEnv) -> None:
        started = time.monotonic()
        result = await env.exec("echo before; echo wrong >&2; sleep 60; echo after", timeout=0.2)
        assert time.monotonic() - started < 0.2 + self.grace
        assert result.exit_code == 124
        assert result.stdout in ("before\n", "")  # some providers keep nothing
        assert "timed out" in result.stderr

    async def test_a_command_that_is_quick_enough_does_not_time_out(self, env: SessionEnv) -> None:
        result = await env.exec("echo done", timeout=30)
        assert (result.stdout, result.stderr, result.exit_code) == ("done\n", "", 0)

    async def test_an_abort_ends_the_command(self, env: SessionEnv) -> None:
        self._needs_commands_beside_others()
        task = asyncio.ensure_future(env.exec("echo started > mark; sleep 0.5; echo too late > late"))
        await self._until_exists(env, "mark")
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < self.grace
        # Past the moment at which the command would have written.
        await env.exec("sleep 0.6")
        assert not await env.exists("late")

    async def test_an_abort_before_the_start_runs_nothing(self, env: SessionEnv) -> None:
        task = asyncio.ensure_future(env.exec("echo ran > mark"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await env.exec("sleep 0.1")
        assert not await env.exists("mark")

    async def test_commands_run_side_by_side_with_their_own_state(self, env: SessionEnv) -> None:
        async def one(number: int) -> str:
            script = f'mkdir d{number}; cd d{number}; export N={number}; sleep 0.2; echo "$N" > file; pwd; cat file'
            return (await env.exec(script)).stdout

        started = time.monotonic()
        outputs = await asyncio.gather(*(one(number) for number in range(6)))
        assert outputs == [f"{env.cwd}/d{number}\n{number}\n" for number in range(6)]
        assert time.monotonic() - started < 0.2 + self.grace

    async def test_files_can_be_read_and_written_while_a_command_runs(self, env: SessionEnv) -> None:
        self._needs_commands_beside_others()
        waits = "n=0; until [ -e answer ]; do sleep 0.05; n=$((n+1)); [ $n -gt 200 ] && exit 1; done; cat answer"
        task = asyncio.ensure_future(env.exec(f"echo 1 > mark; {waits}"))
        await self._until_exists(env, "mark")
        await env.write_file("answer", "from outside")
        assert (await task).stdout == "from outside"

    # 15: life

    async def test_dropping_an_environment_keeps_the_files(self, env: SessionEnv) -> None:
        await env.write_file("file", "kept")
        again = await self.reopen_env(env)
        del env
        assert await again.read_file("file") == "kept"

    async def test_no_error_of_the_sandbox_itself_comes_from_ordinary_failures(self, env: SessionEnv) -> None:
        try:
            result = await env.exec("cat missing; rm missing; cd missing; kill -9 999999; exit 5")
        except SandboxError as error:
            pytest.fail(f"a failing command must be a result: {error}")
        assert result.exit_code == 5

    def _needs_commands_beside_others(self) -> None:
        if self.synchronous:
            pytest.skip("commands of this sandbox run in one go")

    async def _until_exists(self, env: SessionEnv, path: str) -> None:
        deadline = time.monotonic() + 10
        while not await env.exists(path):
            assert time.monotonic() < deadline, f"{path} never appeared"
            await asyncio.sleep(0.01)
