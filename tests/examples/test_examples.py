"""Runs every example as its README line says: with the real command, offline."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flue.cli.main import main
from flue.testing.provider_server import ProviderServer, call, reply

ROOT = Path(__file__).resolve().parents[2]
FLUE = [sys.executable, "-c", "from flue.cli.main import main; raise SystemExit(main())"]
Run = Callable[..., Any]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of examples/ and docs/: running an example writes its conversations beside it."""
    copy = tmp_path_factory.mktemp("checkout")
    made_by_runs = shutil.ignore_patterns(".flue-data", "__pycache__", ".mypy_cache")
    for name in ("examples", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=made_by_runs)
    return copy


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "MODEL" or name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)


@pytest.fixture
def run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `flue run <workflow>` in an example and gives back its result."""

    def run_workflow(example: str, workflow: str, *options: str, **payload: Any) -> Any:
        root = str(checkout / "examples" / example)
        arguments = ["run", workflow, "--root", root, *options, "--payload", json.dumps(payload)]
        status = main(arguments)
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return json.loads(printed.out)

    return run_workflow


async def start(
    *command: str, stdin: str = "", env: dict[str, str] | None = None, cwd: Path | None = None
) -> tuple[int | None, str, str]:
    """Run a command in a process and return its status, stdout and stderr."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **(env or {})}, cwd=cwd
    )
    out, err = await process.communicate(stdin.encode())
    return process.returncode, out.decode(), err.decode()


async def connect(checkout: Path, *lines: str) -> list[str]:
    root = str(checkout / "examples" / "assistant")
    command = [*FLUE, "connect", "assistant", "alice", "--root", root]
    status, out, err = await start(*command, stdin="\n".join(lines))
    assert status == 0, err
    return [json.loads(line)["text"] for line in out.splitlines()]


def test_hello_runs_a_command_and_returns_a_typed_greeting(run: Run) -> None:
    assert run("hello", "hello", name="Ada") == {"shell": "Hello from Flue!", "greeting": "Hello, Ada!"}


def test_translate_returns_the_text_with_low_confidence_offline(run: Run) -> None:
    assert run("translate", "translate", language="French", text="Hello") == {
        "translation": "Hello",
        "confidence": "low",
    }


def test_reporter_reads_the_file_that_the_shell_wrote(run: Run) -> None:
    report = run("reporter", "reporter", topic="rules")["report"]
    assert "From /workspace/data/config.json" in report
    assert '"Cite sources"' in report


def test_support_articles_finds_the_article(run: Run) -> None:
    response = run("support-articles", "support", message="I forgot my password")["response"]
    assert response.startswith("From articles/reset-password.md")
    assert "password reset email" in response


@pytest.mark.e2e
def test_the_mcp_example_asks_a_server_that_it_starts(run: Run) -> None:
    answer = run("mcp", "orders", question="What is the order status of A-1042?")["answer"]
    assert answer.startswith("Order A-1042: shipped on Tuesday.")


def test_the_webhook_agent_answers_for_an_instance(run: Run) -> None:
    answer = run("webhook-agent", "knowledge", "--id", "acme", message="I forgot my password")
    assert answer["response"].startswith("From articles/reset-password.md")
    assert answer["run"].startswith("run_")


@pytest.mark.e2e
async def test_assistant_calls_its_tools_and_remembers_at_the_second_connect(checkout: Path) -> None:
    first, status = await connect(checkout, "My name is Alice.", "What is the status of my order A-1042?")
    assert first.startswith("Noted")
    assert status.startswith("Order A-1042: shipped on Tuesday.")
    (again,) = await connect(checkout, "What is my name?")
    assert "My name is Alice." in again


def test_a_task_of_the_same_name_remembers(run: Run) -> None:
    assert "My issue is a crash." in run("subagents", "triage", issue="My issue is a crash.")["answer"]


def test_a_compacted_conversation_goes_on(run: Run) -> None:
    told = run("long-conversation", "diary", question="What is my favourite tea?")
    assert told["compacted"]
    assert "Assam" in told["answer"]


def test_a_budget_pauses_and_the_work_goes_on(run: Run) -> None:
    told = run("budget", "guide", question="Where is the lighthouse?")
    assert told["pauses"] == 2
    assert "north cape" in told["answer"]


def test_a_message_that_steers_is_answered(run: Run) -> None:
    assert "The ferry leaves at nine." in run("steering", "tour", change="When does the ferry leave?")


@pytest.mark.parametrize(("approve", "answer"), [(True, "Order A-1042 is refunded."), (False, "delivered yesterday")])
def test_a_person_decides_on_a_refund(run: Run, approve: bool, answer: str) -> None:
    assert answer in run("approval", "refund", order="A-1042", approve=approve)["answer"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How do I write a tool?", "docs/guides/tools.md"),
        ("How do I get a typed result?", "docs/guides/typed-results.md"),
        ("Where do I put my API key?", "docs/guides/models.md"),
        ("How do I use a local model with Ollama?", "docs/guides/models.md"),
        ("How do I abort a call?", "docs/guides/sessions.md"),
        ("How do I set a timeout?", "docs/guides/sessions.md"),
        ("How do I define a subagent?", "docs/guides/subagents.md"),
        ("How do I copy real files into the sandbox?", "docs/guides/sandbox.md"),
        ("What is a harness?", "docs/glossary.md"),
        ("Where are sessions stored?", "docs/guides/sessions.md"),
        ("What does session_busy mean?", "docs/troubleshooting.md"),
        ("How can I test my agent?", "docs/guides/testing.md"),
        ("How do I use an agent inside FastAPI?", "docs/guides/running.md"),
    ],
)
def test_support_answers_each_question_from_its_page(run: Run, question: str, source: str) -> None:
    assert_answers(run, question, source)


def test_support_answers_from_the_documentation(run: Run) -> None:
    assert_answers(run, "How do I resume a stream?", "docs/guides/sessions.md")


def assert_answers(run: Run, question: str, source: str) -> None:
    answer = run("support", "support", question=question)
    assert answer["source"] == source
    text = (ROOT / source).read_text(encoding="utf-8")
    assert answer["quote"] in " ".join(text.split())
    assert answer["confidence"] in {"medium", "high"}


def test_support_says_when_the_documentation_does_not_answer(run: Run) -> None:
    answer = run("support", "support", question="Who won the zeppelin regatta?")
    assert "found nothing" in answer["answer"]
    assert (answer["source"], answer["confidence"]) == ("", "low")


def test_skills_answers_by_the_files_of_a_skill_and_by_a_skill_of_the_workspace(run: Run) -> None:
    result = run("skills", "refund", question="Are gift cards refunded?")
    assert "policy.md, line 13" in result["answer"]
    assert "Gift cards are never refunded." in result["answer"]
    assert "On Sunday the shop is closed." in result["hours"]


@pytest.mark.e2e
async def test_demo_answers_its_own_question_on_stdout_and_shows_its_work_on_stderr(checkout: Path) -> None:
    status, out, err = await start(sys.executable, str(checkout / "examples" / "support" / "demo.py"))
    assert status == 0, err
    assert "Source: docs/guides/sessions.md" in out
    assert "Model: demo/librarian, the bundled offline model" in err
    assert "→ grep [Ss]tream" in err
    assert "→ read docs/guides/sessions.md" in err


@pytest.mark.e2e
async def test_observability_counts_events_and_writes_them_as_json_lines(checkout: Path) -> None:
    root = str(checkout / "examples" / "observability")
    payload = json.dumps({"question": "When is the library open?"})
    status, out, err = await start(*FLUE, "run", "watched", "--root", root, "--payload", payload)
    assert status == 0, err
    result = json.loads(out)
    assert "from 9 to 18" in result["answer"]
    assert result["tool_calls"]["grep"] >= 1
    assert result["tokens"]["output"] > 0
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {"operation", "turn", "tool_call"} <= {line["type"] for line in lines}
    assert "weekdays" not in json.dumps(lines)


@pytest.mark.e2e
async def test_observability_prints_the_spans_of_a_prompt(checkout: Path) -> None:
    status, out, err = await start(sys.executable, str(checkout / "examples" / "observability" / "trace.py"))
    assert status == 0, err
    *inner, last = out.splitlines()
    assert last.startswith("invoke_agent")
    assert "execute_tool grep" in inner


@pytest.mark.e2e
async def test_a_script_without_await_remembers(checkout: Path, tmp_path: Path) -> None:
    ask = str(checkout / "examples" / "sync-script" / "ask.py")
    status, out, err = await start(sys.executable, ask, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "you said: “My name is Alice.”" in out


@pytest.mark.e2e
async def test_demo_uses_a_server_of_ones_own_by_its_base_url(checkout: Path) -> None:
    given = {"answer": "Write a function.", "source": "docs/x.md", "quote": "A function.", "confidence": "high"}
    script = [reply(calls=[call("grep", {"pattern": "tool"})]), reply(calls=[call("finish", given)])]
    async with ProviderServer(script) as server:
        env = {"MODEL": "local/some-model", "OPENAI_BASE_URL": server.base_url("openai-completions")}
        demo = str(checkout / "examples" / "support" / "demo.py")
        status, out, err = await start(sys.executable, demo, "How?", env=env)
    assert status == 0, err
    assert out.startswith("Write a function.")
    assert "Model: local/some-model." in err
    assert "offline" not in err


@pytest.mark.e2e
async def test_demo_says_in_one_line_what_is_wrong_with_a_model(checkout: Path) -> None:
    demo = str(checkout / "examples" / "support" / "demo.py")
    status, out, err = await start(sys.executable, demo, env={"MODEL": "anthropic/claude-sonnet-4-6"})
    assert (status, out) == (1, "")
    assert "[missing_api_key]" in err
    assert "ANTHROPIC_API_KEY" in err
    assert "Traceback" not in err


def test_every_example_chooses_its_model_in_the_same_way() -> None:
    texts = {path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*/choose_model.py")}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("env", "model"),
    [
        ({}, "demo/librarian"),
        ({"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, "anthropic/claude-sonnet-4-6"),
        ({"OPENAI_API_KEY": "k"}, "openai/gpt-5.5"),
        ({"MODEL": "ollama/qwen3", "ANTHROPIC_API_KEY": "k"}, "ollama/qwen3"),
    ],
)
def test_the_model_is_chosen_from_the_environment(env: dict[str, str], model: str) -> None:
    namespace: dict[str, Any] = {}
    exec((ROOT / "examples" / "hello" / "choose_model.py").read_text(encoding="utf-8"), namespace)  # noqa: S102
    assert namespace["choose_model"](env) == model


def test_the_table_of_examples_has_the_commands_that_the_modules_show() -> None:
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    shown = [
        line.strip('"')
        for path in (ROOT / "examples").glob("*/*/*.py")
        if path.parent.parent.name != "cloudflare"  # projects of another shape, with a table of their own
        for line in path.read_text(encoding="utf-8").splitlines()[:1]
    ]
    assert len(shown) == 15
    assert [line for line in shown if line.partition(" --payload")[0] not in table] == []
