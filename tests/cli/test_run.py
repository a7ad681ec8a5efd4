from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flue.engine.catalog import Catalog
from flue.engine.engine import EngineSettings
from flue.host import open_service
from flue.stores import SqliteStore

Flue = Callable[..., Any]
Spawn = Callable[..., Any]
Write = Callable[[dict[str, str]], Path]

ECHO = "async def run(ctx):\n    return ctx.payload\n"
ASK = """
from flue import create_agent, tool

@tool
def look(place: str) -> str:
    "Look somewhere."
    return f"nothing in {place}"

writer = create_agent(model="ollama/test", tools=[look])

async def run(ctx):
    harness = await ctx.init(writer)
    session = await harness.session()
    ctx.log.info("asking")
    return (await session.prompt(ctx.payload["say"])).text
"""


def test_the_result_alone_goes_to_stdout_as_pretty_json(flue: Flue, write: Write) -> None:
    write({"workflows/w.py": "print('loading')\nasync def run(ctx):\n    print('noise')\n    return ctx.payload\n"})
    done = flue("run", "w", "--payload", '{"a": ["ø", 1]}')
    assert done.code == 0
    assert done.out == '{\n  "a": [\n    "ø",\n    1\n  ]\n}\n'
    lines = done.err.splitlines()
    assert [line for line in lines if not line.startswith("[flue]")] == ["loading", "noise"]
    assert "[flue] Running workflow: w" in lines
    assert lines[-1] == "[flue] Done."


def test_the_run_has_an_id_of_its_own(flue: Flue, write: Write) -> None:
    write({"workflows/daily_report.py": "async def run(ctx):\n    return ctx.id\n"})
    done = flue("run", "daily-report")
    run_id = json.loads(done.out)
    assert run_id.startswith("workflow:daily-report:")
    assert f"[flue] Run ID: {run_id}\n" in done.err


def test_without_a_payload_it_is_an_empty_object(flue: Flue, write: Write) -> None:
    write({"workflows/w.py": ECHO})
    assert flue("run", "w").out == "{}\n"


@pytest.mark.parametrize("value", ["null", "0", "[]", '"x"'])
def test_any_json_value_is_a_payload(flue: Flue, write: Write, value: str) -> None:
    write({"workflows/w.py": "async def run(ctx):\n    return [ctx.payload]\n"})
    assert json.loads(flue("run", "w", "--payload", value).out) == [json.loads(value)]


def test_nothing_is_printed_for_none(flue: Flue, write: Write) -> None:
    write({"workflows/w.py": "def run(ctx): ...\n"})
    done = flue("run", "w")
    assert (done.code, done.out) == (0, "")


def test_models_and_dataclasses_are_printed_as_json(flue: Flue, write: Write) -> None:
    source = """
        from __future__ import annotations
        from dataclasses import dataclass
        from pydantic import BaseModel

        class Inner(BaseModel):
            level: int

        @dataclass
        class Outer:
            inner: Inner

        def run(ctx):
            return Outer(Inner(level=3))
    """
    write({"workflows/w.py": source})
    assert json.loads(flue("run", "w").out) == {"inner": {"level": 3}}


def test_a_prompt_streams_to_stderr_and_its_answer_is_the_result(flue: Flue, write: Write, provider: Any) -> None:
    write({"workflows/ask.py": ASK, ".env": provider.env_file})
    say = '[[say Looking.]][[call look {"place": "attic"}]][[then]][[say All clear.]]'
    done = flue("run", "ask", "--payload", json.dumps({"say": say}))
    assert (done.code, done.out) == (0, '"All clear."\n')
    lines = done.err.splitlines()
    assert lines[0] == "[flue] Loading env from: .env"
    expected = [
        "[flue] info: asking",
        "  Looking.",
        '[flue] tool:start  look  {"place": "attic"}',
        "[flue] tool:done   look  nothing in attic",
        "  All clear.",
        "[flue] Done.",
    ]
    assert [line for line in lines if line in expected] == expected


def test_the_environment_file_reaches_the_context_and_os_environ(
    flue: Flue, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import os
        AT_IMPORT = os.environ["FLUE_T_FILE"]
        def run(ctx):
            return [AT_IMPORT, ctx.env["FLUE_T_FILE"], ctx.env["FLUE_T_SHELL"], os.environ["FLUE_T_SHELL"]]
    """
    write({"workflows/w.py": source, ".env": "FLUE_T_FILE=no\n", "my.env": "FLUE_T_FILE=file\nFLUE_T_SHELL=file\n"})
    monkeypatch.setenv("FLUE_T_SHELL", "shell")
    done = flue("run", "w", "--env", "my.env")
    assert json.loads(done.out) == ["file", "file", "shell", "shell"]
    assert "FLUE_T_FILE" not in os.environ


def test_root_and_config_choose_the_project(flue: Flue, write: Write) -> None:
    write({"a/workflows/w.py": "def run(ctx):\n    return 'a'\n", "conf.toml": 'root = "a"\n'})
    assert flue("run", "w", "--root", "a").out == '"a"\n'
    done = flue("run", "w", "--config", "conf.toml")
    assert (done.out, done.err.splitlines()[0]) == ('"a"\n', "[flue] Loaded config: conf.toml")


def test_conversations_are_kept_in_a_folder_that_git_ignores(flue: Flue, write: Write, provider: Any) -> None:
    root = write({"workflows/ask.py": ASK, ".env": provider.env_file})
    assert flue("run", "ask", "--payload", '{"say": "[[say Hi.]]"}').code == 0
    assert (root / ".flue-data/flue.db").is_file()
    assert (root / ".flue-data/.gitignore").read_text().endswith("*\n")


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({"workflows/w.py": ECHO}, ["nope"], 'error: Unknown workflow "nope". There are: w. [workflow_not_found]'),
        (
            {"workflows/w.py": ECHO},
            ["w", "--payload", "{oops"],
            """(char 1). Quote it for the shell, for example --payload '{"name": "Ada"}'. [invalid_payload]""",
        ),
        ({"workflows/w.py": ECHO}, ["w", "--payload", "NaN"], "error: --payload is not JSON: NaN is not a JSON value."),
        ({"workflows/w.py": ECHO}, ["w", "--payload", "[" * 30_000], "error: --payload is not JSON: it is nested too"),
        ({"workflows/w.py": ECHO}, ["w", "--payload", r'["\ud800"]'], "error: --payload is not JSON: 'utf-8' codec"),
        ({"workflows/w.py": ECHO}, ["w", "--payload", "[1e999]"], "error: --payload is not JSON: 1e999 is too large"),
        ({"workflows/w.py": ECHO}, ["w", "--env", "x.env"], "x.env does not exist."),
        ({"workflows/w.py": ECHO}, ["w", "--config", "x.toml"], "x.toml does not exist."),
        ({"workflows/w.py": ECHO}, ["w", "--root", "x"], "x is not a directory."),
        (
            {"workflows/w.py": ECHO},
            ["w", "--target", "x"],
            'Invalid target: "x". Supported targets: server, cloudflare.',
        ),
        ({"workflows/w.py": "def run():\n    ...\n"}, ["w"], "workflows/w.py: `run` must take exactly one argument."),
        ({"workflows/w.py": "x = \n"}, ["w"], "workflows/w.py:1: SyntaxError: invalid syntax"),
        ({"workflows/w.py": ECHO, "workflows/v.py": "1 / 0\n"}, ["w"], "workflows/v.py:1: ZeroDivisionError"),
        ({}, ["w"], "No agents and no workflows in "),
        ({"workflows/a_b.py": ECHO, "workflows/a-b.py": ECHO}, ["w"], 'Two files are named "a-b"'),
        ({"workflows/w.py": ECHO, "flue.toml": "port = 1\n"}, ["w"], "unknown key `port`"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_1(
    flue: Flue, write: Write, files: dict[str, str], arguments: list[str], message: str
) -> None:
    write(files)
    done = flue("run", *arguments)
    assert (done.code, done.out) == (1, "")
    lines = [line for line in done.err.splitlines() if not line.startswith("[flue] Loaded config")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def test_a_schema_that_cannot_be_built_is_found_before_the_run(flue: Flue, write: Write) -> None:
    write({"workflows/w.py": ASK.replace("place: str", "place: object()")})
    done = flue("run", "w")
    assert done.code == 1
    assert "workflows/w.py" in done.err
    assert 'tool "look"' in done.err
    assert "Running workflow" not in done.err


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('no\\nluck')", "[ValueError] no luck (workflows/w.py:2)"),
        ("raise KeyError", "[KeyError] no message (workflows/w.py:2)"),
        ("raise ExceptionGroup('several', [ValueError('one of them')])", "[ValueError] one of them"),
        (
            "opening = ctx.init(model='demo/librarian')\n    try: return opening.session\n    finally: opening.close()",
            "[AttributeError] 'coroutine' object has no attribute 'session'. Put `await` before the call that gave it.",
        ),
        ("ctx.sleeep('1s')", "[AttributeError] 'FlueContext' object has no attribute 'sleeep'. Did you mean 'sleep'?"),
        ("None.text", "[AttributeError] 'NoneType' object has no attribute 'text' (workflows/w.py:2)"),
        ("ctx.log.info('got %s', 'it')", "[invalid_usage] ctx.log.info(): attributes must be a mapping, got str."),
        ("return object()", "[invalid_result] The result, of type object, cannot be written as JSON"),
    ],
)
def test_a_failing_workflow_is_one_line_without_traceback(flue: Flue, write: Write, body: str, line: str) -> None:
    write({"workflows/w.py": f"async def run(ctx):\n    {body}\n"})
    done = flue("run", "w")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(f"[flue] Workflow error: {line}")
    assert "Traceback" not in done.err
    assert "Done." not in done.err


def test_a_group_of_errors_is_placed_after_a_task_group_failed(flue: Flue, write: Write) -> None:
    write(
        {
            "workflows/group.py": """
                import asyncio

                async def fail():
                    raise ValueError("no")

                async def run(ctx):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail())
                        group.create_task(fail())
                """
        }
    )
    done = flue("run", "group")
    assert (done.code, done.out) == (1, "")
    said = "unhandled errors in a TaskGroup: ValueError: no; ValueError: no (workflows/group.py:"
    assert f"[flue] Workflow error: [ExceptionGroup] {said}" in done.err
    record = flue("run", "group", "--json").out
    assert json.loads(record)["error"]["message"].startswith("unhandled errors in a TaskGroup: ValueError: no;")
    assert "(workflows/group.py:" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("status", ["0", "3", "'gone'"])
def test_a_workflow_that_ends_the_process_has_failed(flue: Flue, write: Write, status: str) -> None:
    write({"workflows/leave.py": f"import sys\nasync def run(ctx):\n    sys.exit({status})\n"})
    done = flue("run", "leave")
    assert (done.code, done.out) == (1, "")
    assert f"[flue] Workflow error: [SystemExit] sys.exit({status}) was called" in done.err
    assert "(workflows/leave.py:3)" in done.err


def test_debug_shows_the_traceback(flue: Flue, write: Write) -> None:
    write({"workflows/w.py": "async def run(ctx):\n    raise ValueError('no luck')\n", "agents/a.py": ""})
    assert 'agents/a.py", line' not in flue("run", "w", "--debug").err
    (Path("agents/a.py")).unlink()
    done = flue("run", "w", "--debug")
    assert done.code == 1
    assert 'workflows/w.py", line 2, in run' in done.err
    assert done.err.splitlines()[-1] == "[flue] Workflow error: [ValueError] no luck (workflows/w.py:2)"


@pytest.mark.parametrize(
    ("model", "code"),
    [("no-such-provider/x", "unknown_provider"), ("anthropic/claude-sonnet-4-6", "missing_api_key"), ("nonsense", "")],
)
def test_a_model_that_cannot_be_used_is_named(
    flue: Flue, write: Write, monkeypatch: pytest.MonkeyPatch, model: str, code: str
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    write({"workflows/w.py": ASK.replace("ollama/test", model)})
    done = flue("run", "w", "--payload", '{"say": "hi"}')
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert last.startswith(f"[flue] Workflow error: [{code}")
    assert model.partition("/")[0] in last


@pytest.mark.parametrize("how", [["--target", "cloudflare"], []])
def test_the_cloudflare_target_is_refused_with_a_way_to_call_it(flue: Flue, write: Write, how: list[str]) -> None:
    write({"workflows/w.py": ECHO, **({} if how else {"flue.toml": 'target = "cloudflare"\n'})})
    done = flue("run", "w", "--payload", '{"a": "b c"}', *how)
    assert (done.code, done.out) == (1, "")
    assert "curl https://<your-worker>/workflows/w?wait=result" in done.err
    assert """-d '{"a": "b c"}'""" in done.err
    assert flue("run", "w", "--target", "server").code == 0


def test_a_call_that_nobody_awaits_and_fails_is_logged_in_one_line(flue: Flue, write: Write, provider: Any) -> None:
    source = ASK.replace(
        "return (await session.prompt(ctx.payload",
        "await session.prompt('[[say ok]]')\n    (session.prompt(ctx.payload",
    )
    source = source.replace('["say"])).text', '["say"]).settle())')
    write({"workflows/ask.py": source.replace("    (session", "    return await (session"), ".env": provider.env_file})
    done = flue("run", "ask", "--payload", '{"say": "[[error 401]]"}')
    assert done.code == 0
    assert "Traceback" not in done.err
    assert "failed and nobody awaited it" in done.err


@pytest.mark.e2e
def test_an_interrupt_ends_the_run_in_good_order(spawn: Spawn, write: Write) -> None:
    source = """
        import asyncio, sys

        async def run(ctx):
            print("ready", file=sys.stderr, flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up", file=sys.stderr, flush=True)
                ctx.log.info("all is in order")
    """
    write({"workflows/w.py": source})
    child = spawn("run", "w")
    child.until("ready")
    child.until("Run ID")
    child.process.send_signal(signal.SIGINT)
    done = child.finish()
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-2:] == ["cleaned up", "[flue] info: all is in order"]
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("send('SIGTERM'); await asyncio.Event().wait()", 143),
        ("send('SIGTERM'); return 1", 143),
        ("send('SIGINT'); send('SIGINT'); print('not reached')", 130),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_a_signal_decides_the_exit_code_and_nothing_is_printed(flue: Flue, write: Write, body: str, code: int) -> None:
    send = "def send(name):\n    os.kill(os.getpid(), signal.Signals[name])\n"
    write({"workflows/w.py": f"import asyncio, os, signal\n{send}async def run(ctx):\n    {body}\n"})
    before = signal.getsignal(signal.SIGTERM)
    done = flue("run", "w")
    assert (done.code, done.out) == (code, "")
    assert "not reached" not in done.err
    assert "Traceback" not in done.err
    assert signal.getsignal(signal.SIGTERM) == before


HELPER = """
triggers = {"webhook": True}

async def run(ctx):
    harness = await ctx.init(model="ollama/test", role=ctx.payload.get("role"))
    session = await harness.session()
    reply = await session.prompt(ctx.payload["say"])
    return {"id": ctx.id, "run": ctx.run_id, "said": reply.text, "known": len(session.history.transcript)}
"""


def test_a_function_agent_runs_for_an_instance_and_remembers_it(flue: Flue, write: Write, provider: Any) -> None:
    write({"agents/helper.py": HELPER, "agents/other.py": HELPER, ".env": provider.env_file})
    say = ("--payload", '{"say": "[[say Hi.]]"}')
    done = flue("run", "helper", "--id", "ada", *say)
    result = json.loads(done.out)
    assert (result["id"], result["said"], result["known"]) == ("ada", "Hi.", 2)
    assert result["run"].startswith("run_")
    assert f"[flue] Running agent: helper/ada\n[flue] Run ID: {result['run']}\n" in done.err
    again = json.loads(flue("run", "helper", "--id", "ada", *say).out)
    assert again["known"] == 4
    assert again["run"] != result["run"]
    assert json.loads(flue("run", "helper", "--id", "bob", *say).out)["known"] == 2
    assert json.loads(flue("run", "other", "--id", "ada", *say).out)["known"] == 2


def test_a_function_agent_takes_a_role_of_the_project(flue: Flue, write: Write, provider: Any) -> None:
    write({"agents/helper.py": HELPER, "roles/poet.md": "Write in verse.\n", ".env": provider.env_file})
    payload = json.dumps({"say": "[[say Hi.]]", "role": "poet"})
    assert flue("run", "helper", "--id", "ada", "--payload", payload).code == 0
    assert "## Your role: poet\\n\\nWrite in verse." in provider.server.requests[-1].body.decode()
    done = flue("run", "helper", "--id", "ada", "--payload", payload.replace("poet", "boss"))
    assert done.err.splitlines()[-1].startswith(
        '[flue] Agent error: [unknown_role] Role "boss" not registered. Available roles: poet.'
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["helper"], '"helper" is an agent, which runs for an instance. Name one: flue run helper --id <instance-id>.'),
        (["chat"], '"chat" is an agent, which answers prompts. Talk to it: flue connect chat <instance-id>.'),
        (["count", "--id", "ada"], '"count" is a workflow, not an agent. Run it: flue run count.'),
        (["chat", "--id", "ada"], "has no run of its own. Talk to it with `flue connect chat ada`."),
        (["nope", "--id", "ada"], 'Unknown agent "nope". There are: chat, helper.'),
        (["helper", "--id", " "], "The instance id must be text that is not blank"),
    ],
)
def test_what_cannot_run_for_an_instance_is_said(flue: Flue, write: Write, arguments: list[str], problem: str) -> None:
    chat = "from flue import create_agent\nagent = create_agent(model='ollama/test')\n"
    write({"agents/helper.py": HELPER, "agents/chat.py": chat, "workflows/count.py": ECHO})
    done = flue("run", *arguments)
    assert (done.code, done.out) == (1, "")
    assert problem in done.err.splitlines()[-1]


def test_observers_see_a_run_from_its_start_to_its_end(flue: Flue, write: Write) -> None:
    source = """
        from flue import observe
        observe(lambda event, ctx: print(event.type, event.scope.run_id == ctx.id))
        async def run(ctx):
            ctx.log.info("at work")
    """
    write({"workflows/w.py": source})
    done = flue("run", "w")
    assert [line for line in done.err.splitlines() if line.endswith("True")] == [
        "run_start True",
        "log True",
        "idle True",
        "run_end True",
    ]


def test_the_record_of_the_run_is_one_line_where_it_is_asked_for(flue: Flue, write: Write) -> None:
    body = "    if ctx.payload.get('fail'):\n        raise ValueError('no luck')\n    return [1]\n"
    write(
        {"workflows/w.py": f"async def run(ctx):\n{body}", "agents/a.py": "def run(ctx):\n    return 'for ' + ctx.id\n"}
    )
    done = flue("run", "w", "--json", "--payload", '{"a": 1}')
    record = json.loads(done.out)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert (record["status"], record["result"], record["payload"], record["isError"]) == (
        "completed",
        [1],
        {"a": 1},
        False,
    )
    assert f"Run ID: {record['runId']}" in done.err
    failed = flue("run", "w", "--json", "--payload", '{"fail": true}')
    assert failed.code == 1
    assert json.loads(failed.out)["error"] == {"name": "ValueError", "message": "no luck"}
    served = json.loads(flue("run", "a", "--id", "ada", "--json").out)
    assert (served["agentName"], served["instanceId"], served["result"]) == ("a", "ada", "for ada")


@pytest.mark.e2e
def test_a_run_waits_for_its_event_and_says_so(spawn: Spawn, write: Write) -> None:
    source = """
        async def run(ctx):
            return await ctx.wait_for_event("paid", timeout="1h")
    """
    root = write({"workflows/w.py": source})
    child = spawn("run", "w")
    child.until("[flue] wait:event  paid  until ")
    run_id = next(line for line in child.seen.decode().splitlines() if "Run ID" in line).rpartition(" ")[2]

    async def pay() -> None:
        store = SqliteStore(root / ".flue-data/flue.db")
        async with open_service(Catalog(), store=store, settings=EngineSettings(take_over=False)) as service:
            await service.start()
            await service.send_event(run_id, "paid", {"euros": 5})
        await store.aclose()

    asyncio.run(pay())
    done = child.finish()
    assert (done.code, json.loads(done.out)) == (0, {"euros": 5})


def test_what_a_run_dispatches_is_done_before_the_command_ends(flue: Flue, write: Write, provider: Any) -> None:
    source = """
        from flue import create_agent, dispatch

        async def run(ctx):
            for name in ("ann", "ben"):
                await dispatch("mail", id=name, input="[[call peek {}]][[then]][[say Sent.]]")
            return "dispatched"
    """
    agent = """
        from flue import create_agent, tool

        @tool
        def peek() -> str:
            "Look into the box."
            return "empty"

        agent = create_agent(model="ollama/test", tools=[peek])
    """
    write({"workflows/w.py": source, "agents/mail.py": agent, ".env": provider.env_file})
    done = flue("run", "w")
    assert (done.code, done.out) == (0, '"dispatched"\n')
    last = [request.json["messages"][-1]["role"] for request in provider.server.requests]
    assert sorted(last) == ["tool", "tool", "user", "user"]


@pytest.mark.e2e
def test_a_result_that_the_terminal_cannot_show_is_escaped(spawn: Spawn, write: Write) -> None:
    write({"workflows/w.py": "async def run(ctx):\n    return 'ø'\n"})
    done = spawn("run", "w", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}).finish()
    assert (done.code, done.out) == (0, '"\\u00f8"\n')
