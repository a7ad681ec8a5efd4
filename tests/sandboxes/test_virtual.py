from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flue.errors import DefinitionError, UsageError
from flue.harness.env import SessionEnv
from flue.sandboxes import Limits, Network, WorkerPool, virtual
from flue.sandboxes.engine import Command, EngineOptions, Outcome
from flue.sandboxes.virtual_sandbox import VirtualSandbox

WORKER = "as in a Worker"
WAYS = ["in this process", WORKER, pytest.param("isolated", marks=pytest.mark.faults)]


# SBX-12
@pytest.fixture(autouse=True, params=WAYS)
async def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Run every test on every engine, the slow one with the slow tests: what a sandbox does is the same."""
    if request.param == "isolated":
        async with WorkerPool(spare=0) as pool:
            pool.make_default()
            yield request.param
    else:
        monkeypatch.setattr("flue.sandboxes.virtual_sandbox._HAS_THREADS", request.param == "in this process")
        yield request.param


async def open_env(*arguments: Any, **options: Any) -> SessionEnv:
    return await virtual(*arguments, **options).create_session_env(id="test")


class TestFiles:
    async def test_given_files_are_there_as_text_or_bytes(self) -> None:
        env = await open_env({"notes.md": "naïve\n", "data/raw.bin": b"\xff\x00", "/home/user/.rc": "x", "/tmp/t": "y"})
        assert await env.read_file("notes.md") == "naïve\n"
        assert await env.read_file_buffer("data/raw.bin") == b"\xff\x00"
        assert (await env.exec("cat ~/.rc /tmp/t; find . -type f | sort")).stdout == "xy./data/raw.bin\n./notes.md\n"

    async def test_every_environment_has_files_of_its_own(self) -> None:
        factory = virtual({"a": "1"})
        first, second = [await factory.create_session_env(id=id) for id in "xy"]
        await first.exec("echo changed > a; touch b")
        assert await second.readdir(".") == ["a"]
        assert await second.read_file("a") == "1"

    async def test_a_new_sandbox_holds_nothing_else(self) -> None:
        env = await open_env()
        assert (await env.exec("ls -A /workspace /home/user /tmp")).stdout.split() == [
            "/workspace:",
            "/home/user:",
            "/tmp:",
        ]

    async def test_the_kept_directories_are_three_and_each_its_own(self) -> None:
        env = await open_env()
        await env.exec("echo w > /workspace/f; echo h > ~/f; echo t > /tmp/f; mv /tmp/f /workspace/moved; touch /tmp/g")
        assert await env.readdir("/workspace") == ["f", "moved"]
        assert await env.readdir("/home/user") == ["f"]
        assert await env.readdir("/tmp") == ["g"]

    async def test_what_is_written_elsewhere_ends_with_the_command(self) -> None:
        env = await open_env()
        assert (await env.exec("mkdir /data && echo x > /data/f && cat /data/f")).stdout == "x\n"
        assert not await env.exists("/data")
        assert (await env.exec("cat /data/f")).exit_code == 1
        assert "/workspace" in getattr(env.sandbox, "description", "")

    @pytest.mark.parametrize("path", ["/etc/file", "/data/new/file", "/home/other", "/"])
    async def test_writing_elsewhere_from_outside_is_refused(self, path: str) -> None:
        env = await open_env()
        with pytest.raises(OSError, match="only /workspace, /home/user, /tmp keep files") as caught:
            await env.write_file(path, "x")
        assert caught.value.filename == path
        with pytest.raises(OSError, match="keep files"):
            await env.mkdir(f"{path}/folder", recursive=True)

    async def test_a_link_out_of_the_kept_directories_cannot_be_written_through(self) -> None:
        env = await open_env()
        await env.exec("ln -s /etc/hosts out; ln -s /etc folder")
        for path in ("out", "folder/hosts"):
            assert "localhost" in await env.read_file(path)
            with pytest.raises(OSError, match="keep files"):
                await env.write_file(path, "x")
        assert "localhost" in (await env.exec("cat /etc/hosts")).stdout

    async def test_the_rest_of_the_tree_can_be_looked_at(self) -> None:
        env = await open_env({"a": ""})
        assert {"bin", "etc", "home", "tmp", "workspace"} <= set(await env.readdir("/"))
        assert (await env.stat("/bin/ls")).is_file
        assert (await env.stat("/home")).is_directory
        assert await env.readdir("/workspace") == ["a"]

    @pytest.mark.parametrize("command", ["rm -rf /workspace", "rm -rf /*", "cd / && rm -rf workspace tmp home"])
    async def test_removing_everything_leaves_a_sandbox_that_works(self, command: str) -> None:
        env = await open_env({"a": "1"})
        await env.exec(command)
        assert await env.readdir(".") == []
        assert (await env.exec("echo new > b; ls; pwd")).stdout == "b\n/workspace\n"
        await env.write_file("c", "x")
        await env.rm("/workspace", recursive=True)
        assert await env.readdir("/workspace") == []

    async def test_ten_million_bytes_are_the_largest_file(self) -> None:
        env = await open_env()
        content = bytes(range(250)) * 40_000
        await env.write_file("large", content)
        assert await env.read_file_buffer("large") == content
        shown = await env.exec("cat large | wc -c; cp large copy; cmp large copy && echo same")
        assert shown.stdout.split() == ["10000000", "same"]
        with pytest.raises(OSError, match="10000000 byte limit") as caught:
            await env.write_file("larger", content + b"x")
        assert caught.value.filename == "/workspace/larger"

    async def test_a_full_sandbox_says_so(self) -> None:
        env = await open_env()
        for number in range(10):
            await env.write_file(f"f{number}", bytes(10_000_000))
        with pytest.raises(OSError, match=r"No space left.*100000000 byte limit"):
            await env.write_file("one more", b"x")
        assert "filesystem full" in (await env.exec("echo x > more")).stderr
        await env.rm("f0")
        await env.write_file("one more", b"x")

    @pytest.mark.timeout(
        90
    )  # isolated, where changes are looked for, which takes bashkit the longer the more there are
    async def test_too_many_directories_are_refused(self) -> None:
        env = await open_env()
        with pytest.raises(OSError, match=r"No space left.*too many directories"):
            for number in range(10_001):
                await env.mkdir(f"d{number}")

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("x" * 256, "255 byte limit"),
            ("/".join("d" * 120), "level limit"),
            ("/".join(["d" * 200] * 30), "byte limit"),
            ("tab\there", "unsafe character"),
            ("two\nlines", "unsafe character"),
        ],
    )
    async def test_impossible_names_are_refused_with_the_reason(self, path: str, reason: str) -> None:
        env = await open_env()
        with pytest.raises(OSError, match=reason) as caught:
            await env.write_file(path, "x")
        assert caught.value.filename == f"/workspace/{path}"
        assert not await env.exists(path)

    async def test_a_deep_directory_works(self, engine: str) -> None:
        env = await open_env()
        path = "/".join("d" * (60 if engine == WORKER else 95))
        await env.write_file(f"{path}/file", "deep")
        assert (
            await env.exec(f"cd {path} && cat file; find . -name file; cd /workspace; grep -rl deep . | wc -l")
        ).stdout == ("deep./file\n1\n")


class TestShell:
    async def test_who_and_where_commands_are(self) -> None:
        env = await open_env()
        shown = await env.exec("pwd; echo $HOME ~ $USER; whoami; hostname; cd; pwd")
        assert shown.stdout == "/workspace\n/home/user /home/user user\nuser\nsandbox\n/home/user\n"

    async def test_the_working_directory_is_made(self) -> None:
        env = await open_env({"project/readme": "r"}, cwd="project/src")
        assert env.cwd == "/workspace/project/src"
        assert (await env.exec("pwd; cat ../readme")).stdout == "/workspace/project/src\nr"

    @pytest.mark.parametrize(("hint", "made"), [("/workspace/app", "/workspace/app"), ("app", "/workspace/app")])
    async def test_an_agents_working_directory_is_made(self, hint: str, made: str) -> None:
        env = await virtual().create_session_env(id="x", cwd=hint)
        assert (await env.scoped(hint).exec("pwd")).stdout == f"{made}\n"

    async def test_pipelines_over_ten_thousand_lines(self) -> None:
        lines = "".join(f"line {number} user{number % 7} status={200 + number % 5}\n" for number in range(10_000))
        env = await open_env({"log": lines})
        result = await env.exec(
            "grep 'status=20[13]' log | sed 's/user/U/' | awk '{n[$3]++} END {for (u in n) print u, n[u]}' | sort"
        )
        expected = {f"U{user}": 0 for user in range(7)}
        for number in range(10_000):
            if number % 5 in (1, 3):
                expected[f"U{number % 7}"] += 1
        assert result.stdout == "".join(f"{user} {count}\n" for user, count in sorted(expected.items()))

    @pytest.mark.parametrize(
        ("command", "output"),
        [
            ("grep -rn --include='*.md' needle .", "./docs/a.md:2:a needle\n"),
            ("find . -type f -name '*.md' | head -n 5", "./docs/a.md\n"),
            ("sed -n '1,1p' docs/a.md", "first\n"),
            ("awk 'NR==2 {print $2}' docs/a.md", "needle\n"),
            ("mkdir -p x/y && cat > x/y/z <<'EOF'\n$no \"expansion\"\nEOF\ncat x/y/z", '$no "expansion"\n'),
            ('for f in docs/*; do echo "${f##*/}"; done', "a.md\n"),
            ("printf '%s\\n' b a c | sort | tr '\\n' ' '", "a b c "),
            (
                "gzip -k docs/a.md && zcat docs/a.md.gz | head -1; cat docs/a.md.gz | zcat | tail -1",
                "first\na needle\n",
            ),
            ("echo '{\"a\": [1, 2]}' | jq -c '.a'", "[1,2]\n"),
            ("a=(1 2 3); echo ${#a[@]} ${a[@]:1}; [[ x1 =~ x(.) ]] && echo ${BASH_REMATCH[1]}", "3 2 3\n1\n"),
            ("test -e docs/a.md && stat -c '%F|%s' docs/a.md", "regular file|15\n"),
            ("tree docs | tail -1", "0 directories, 1 file\n"),
            ("rg -n needle", "docs/a.md:2:a needle\n"),
        ],
    )
    async def test_what_agents_write_works(self, command: str, output: str) -> None:
        env = await open_env({"docs/a.md": "first\na needle\n"})
        result = await env.exec(command)
        assert (result.stdout, result.stderr) == (output, "")

    @pytest.mark.parametrize(
        ("command", "output"),
        [("sqlite3 :memory: 'select 1 + 1'", "2\n"), ("sleep 0.01s && sleep 0 .01 && echo slept", "slept\n")],
    )
    async def test_what_a_worker_does_its_own_way_works_elsewhere(self, engine: str, command: str, output: str) -> None:
        if engine == WORKER:
            pytest.skip("tests/sandboxes/test_synchronous.py has its way")
        result = await (await open_env()).exec(command)
        assert (result.stdout, result.stderr) == (output, "")

    async def test_bytes_that_are_not_text_survive_pipes_and_archives(self) -> None:
        env = await open_env({"in": bytes(range(256)) * 10})
        await env.exec(
            "gzip -c in > in.gz; zcat in.gz > a; cat in.gz | zcat > b; tar cf t.tar in; mkdir o; tar xf t.tar -C o"
        )
        for path in ("a", "b", "o/in"):
            assert await env.read_file_buffer(path) == bytes(range(256)) * 10

    async def test_a_syntax_error_has_the_status_that_bash_gives_it(self) -> None:
        env = await open_env()
        for stdin in (None, "input"):
            result = await env.exec("for i in 1 2", stdin=stdin)
            assert (result.stdout, result.exit_code) == ("", 2)
            assert "syntax error" in result.stderr

    @pytest.mark.parametrize("command", ["sleep", "sleep soon"])
    async def test_sleep_explains_wrong_arguments(self, command: str) -> None:
        result = await (await open_env()).exec(command)
        assert result.exit_code == 1
        assert result.stderr.startswith("sleep: ")

    async def test_the_home_directory_can_be_another(self) -> None:
        env = await open_env()
        assert (await env.exec("cd; pwd", env={"HOME": "/tmp"})).stdout == "/tmp\n"

    @pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "nul\0"}, {"A": "half \ud800"}])
    async def test_impossible_variables_are_refused(self, env: dict[str, str]) -> None:
        with pytest.raises(UsageError, match="environment variable") as caught:
            await (await open_env()).exec("true", env=env)
        assert caught.value.code == "invalid_command"

    async def test_input_larger_than_a_file_is_an_error(self) -> None:
        with pytest.raises(OSError, match="standard input"):
            await (await open_env()).exec("cat", stdin=bytes(10_000_001))


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello " + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Hello)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestNetwork:
    # SBX-01
    async def test_the_network_is_off_unless_asked_for(self, address: str) -> None:
        result = await (await open_env()).exec(f"curl -sS {address}/x")
        assert result.stdout == ""
        assert result.exit_code != 0

    async def test_an_allowed_address_is_reached_and_others_are_not(self, engine: str, address: str) -> None:
        if engine == WORKER:
            pytest.skip("there is no network")
        env = await open_env(network=Network(allow=(f"{address}/open",), private=True))
        assert (await env.exec(f"curl -sS {address}/open/x")).stdout == "hello /open/x"
        assert (await env.exec(f"curl -sS {address}/closed")).exit_code != 0

    @pytest.mark.parametrize("network", [True, ["http://127.0.0.1"]])
    async def test_private_addresses_need_a_word_of_their_own(self, engine: str, address: str, network: Any) -> None:
        if engine == WORKER:
            pytest.skip("there is no network")
        env = await open_env(network=network)
        result = await env.exec(f"curl -sS {address}/x")
        assert result.stdout == ""
        assert result.exit_code != 0


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"files": ["a"]}, "files must map paths"),
            ({"files": {"a": 1}}, "'a' must be text or bytes, got int"),
            ({"files": {"a": "half \ud800"}}, "'a' is not valid Unicode"),
            ({"files": {1: "x"}}, "a path of files must be a path"),
            ({"files": {"": "x"}}, "a path of files must be a path"),
            ({"files": {"/etc/passwd": "x"}}, "only /workspace"),
            ({"files": {"../etc/passwd": "x"}}, "only /workspace"),
            ({"files": {".": "x"}}, "is a directory"),
            ({"files": {"a": "x", "./a": "y"}}, "two paths of files mean /workspace/a"),
            ({"files": {"a/b/c": "x", "a": "y"}}, "/workspace/a/b/c cannot be a file of files, as /workspace/a is one"),
            ({"cwd": "/srv"}, "cwd is '/srv'"),
            ({"cwd": None}, "cwd must be a path"),
            ({"network": "https://x.example"}, "network must be"),
            ({"network": ["x.example"]}, "network must be"),
            ({"network": 1}, "network must be"),
        ],
    )
    def test_wrong_arguments_are_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            virtual(**options)

    @pytest.mark.parametrize(
        "limits", [{"commands": 0}, {"commands": 1.5}, {"loop_iterations": True}, {"seconds": 0}, {"seconds": "1"}]
    )
    def test_wrong_limits_are_named(self, limits: dict[str, Any]) -> None:
        with pytest.raises(DefinitionError, match=f"Limits: {next(iter(limits))}"):
            Limits(**limits)


class _RecordingEngine:
    """An engine that only runs: it answers each command with a fixed outcome."""

    about = "They are all the same."

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.commands: list[Command] = []

    async def run(self, command: Command) -> Outcome:
        self.commands.append(command)
        return self.outcome


class TestEngine:
    """The sandbox over any engine: plain data goes in, text and notes come out."""

    @pytest.mark.parametrize("network", [False, True])
    def test_a_model_is_told_what_is_missing_and_what_the_engine_says_of_itself(self, network: bool) -> None:
        engine: Any = _RecordingEngine(Outcome(b"", b"", 0))
        description = VirtualSandbox(engine, Limits(), network=network).description
        assert ("no network" in description) is not network
        assert description.endswith("package managers. They are all the same.")

    @pytest.mark.parametrize(
        ("outcome", "stderr", "exit_code"),
        [
            (Outcome(b"o", b"e\n", 3), "e\n", 3),
            (Outcome(b"o", b"e", 1, "timeout"), "e\n[flue] Command timed out after 2 seconds.\n", 124),
            (Outcome(b"o", b"", 1, "limit", "too much"), "[flue] The command was stopped: too much.\n", 1),
            (Outcome(b"o", b"", 0, note="Cut."), "[flue] Cut.\n", 0),
        ],
    )
    async def test_outcomes_become_results(self, outcome: Outcome, stderr: str, exit_code: int) -> None:
        engine: Any = _RecordingEngine(outcome)
        result = await VirtualSandbox(engine, Limits()).exec("x", cwd="/workspace", stdin="é", timeout=2)
        assert (result.stdout, result.stderr, result.exit_code) == ("o", stderr, exit_code)
        assert engine.commands == [Command("x", "/workspace", 2, {}, "é".encode())]

    async def test_no_timeout_is_longer_than_the_limit(self) -> None:
        engine: Any = _RecordingEngine(Outcome(b"", b"", 0))
        sandbox = VirtualSandbox(engine, Limits(seconds=10))
        for timeout in (None, 5, 100):
            await sandbox.exec("x", cwd="/workspace", timeout=timeout)
        assert [command.seconds for command in engine.commands] == [10, 5, 10]

    def test_options_hold_only_plain_data(self) -> None:
        options = EngineOptions({"/workspace/a": b"x"}, Limits(commands=5), Network(("https://x.example",)))
        assert (options.limits.commands, options.network) == (5, Network(("https://x.example",), private=False))


async def test_many_sandboxes_work_at_the_same_time() -> None:
    factory = virtual({"a": "x\n" * 1000})

    async def one(number: int) -> str:
        env = await factory.create_session_env(id=str(number))
        await env.write_file("n", str(number))
        return (await env.exec("grep -c x a; cat n")).stdout

    assert await asyncio.gather(*(one(number) for number in range(50))) == [f"1000\n{n}" for n in range(50)]
