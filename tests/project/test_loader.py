from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flue.errors import ConfigError
from flue.project.loader import Project, build_schemas, load_project

Load = Callable[..., Project]
Write = Callable[..., Path]

AGENT = "from flue.definitions.agent import create_agent\nagent = create_agent(model='demo/librarian')\n"
RUN = "async def run(ctx):\n    return 1\n"


def failure(write: Write, files: dict[str, str]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_project(write(files))
    assert "\n" not in str(caught.value)
    assert "_flue_project" not in str(caught.value)
    return caught.value


def test_a_project_holds_its_agents_workflows_and_app(load: Load) -> None:
    files = {
        ".flue/agents/support.py": AGENT + "route = True\nasync def websocket(request, call_next): ...\n",
        ".flue/agents/hook.py": RUN + 'triggers = {"webhook": True}\n',
        ".flue/workflows/daily_report.py": RUN,
        ".flue/app.py": "async def app(scope, receive, send): ...\n",
        "flue.toml": 'target = "server"\n',
    }
    project = load(files)
    assert project.source_root == project.root / ".flue"
    assert project.config.file == project.root / "flue.toml"
    support, hook = project.agent("support"), project.agent("hook")
    assert support.agent is support.module.agent
    assert (support.route, support.websocket, support.run) == (True, support.module.websocket, None)
    assert (hook.agent, hook.run, hook.webhook) == (None, hook.module.run, True)
    assert project.workflow("daily-report").run is project.workflow("daily-report").module.run
    assert project.app is not None


def test_a_function_agent_without_triggers_is_not_a_webhook(load: Load) -> None:
    assert load({"agents/a.py": RUN}).agent("a").webhook is False


def test_a_sync_run_and_a_callable_object_are_fine(load: Load) -> None:
    source = "class Job:\n    async def __call__(self, ctx): ...\nrun = Job()\nroute = Job()\n"
    project = load({"workflows/a.py": "def run(ctx, *, extra=1): ...\n", "workflows/b.py": source})
    assert sorted(project.workflows) == ["a", "b"]
    assert project.workflow("b").route is project.workflow("b").module.route


def test_an_unknown_name_lists_those_there_are_and_guesses(load: Load) -> None:
    project = load({"workflows/daily_report.py": RUN, "workflows/x.py": RUN})
    with pytest.raises(ConfigError) as caught:
        project.workflow("daily_report")
    assert caught.value.code == "workflow_not_found"
    assert caught.value.hint == 'Did you mean "daily-report"? There are: daily-report, x.'
    with pytest.raises(ConfigError) as caught:
        project.agent("y")
    assert (caught.value.code, caught.value.hint) == ("agent_not_found", "There are: none.")


@pytest.mark.parametrize(
    ("source", "problem", "hint"),
    [
        ("x = 1\n", "a workflow must define `run`", "async def run(ctx"),
        (AGENT, "a workflow must define `run`", "move it to agents/"),
        ("run = 3\n", "`run` must be a function, got a value of type int", "async def run"),
        ("async def run(): ...\n", "`run` must take exactly one argument", "ctx.payload"),
        ("async def run(ctx, payload): ...\n", "`run` must take exactly one argument", "ctx.payload"),
        ("async def run(*, ctx): ...\n", "`run` must take exactly one argument", "ctx.payload"),
        ("async def run(ctx):\n    yield 1\n", "not yield", "return"),
        (RUN + "route = 'yes'\n", "`route` must be True or an async function", "route = True"),
        (RUN + "def route(request, call_next): ...\n", "`route` must be True or an async function", "async def route"),
        (RUN + "websocket = 1\n", "`websocket` must be True or an async function", "websocket = True"),
    ],
)
def test_a_malformed_workflow_is_named_with_the_next_step(write: Write, source: str, problem: str, hint: str) -> None:
    error = failure(write, {"workflows/w.py": source})
    assert error.code == "invalid_module"
    assert error.message.startswith("workflows/w.py: ")
    assert problem in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("source", "problem", "hint"),
    [
        ("x = 1\n", "must define `agent`", "agent = create_agent("),
        (AGENT.replace("agent =", "support ="), "must define `agent`", "Rename `support` to `agent`"),
        ("agent = 'x'\n", "made by create_agent, got a value of type str", "create_agent(model="),
        (
            "from flue.definitions.profile import AgentProfile\nagent = AgentProfile(model='a/b')\n",
            "made by create_agent, got a value of type AgentProfile",
            "create_agent(profile=",
        ),
        ("class agent: ...\n", "got the agent class", "create_agent"),
        (AGENT + 'triggers = {"webhook": True}\n', "`agent` and `triggers`", "alone"),
        (RUN + 'triggers = {"cron": True}\n', "`triggers` knows only the key `webhook`", "leave it out"),
        (RUN + "triggers = True\n", "`triggers` knows only the key `webhook`", "leave it out"),
        (RUN + 'triggers = {"webhook": "yes"}\n', "must say True or False", "True"),
    ],
)
def test_a_malformed_agent_is_named_with_the_next_step(write: Write, source: str, problem: str, hint: str) -> None:
    error = failure(write, {"agents/a.py": source})
    assert error.code == "invalid_module"
    assert error.message.startswith("agents/a.py: ")
    assert problem in error.message
    assert hint in error.hint


def test_an_app_module_must_export_app(write: Write) -> None:
    error = failure(write, {"workflows/w.py": RUN, "app.py": "application = 1\n"})
    assert error.message == "app.py: must define `app`, an ASGI application."


def test_two_files_with_one_agent_are_both_named(write: Write) -> None:
    error = failure(write, {"agents/one.py": AGENT, "agents/two.py": "from .one import agent\n"})
    assert error.code == "duplicate_agent"
    assert error.message == "agents/one.py and agents/two.py export the same agent."


def test_a_file_hidden_by_a_package_is_an_error(write: Write) -> None:
    error = failure(write, {"workflows/w.py": RUN, "workflows/w/__init__.py": RUN})
    assert error.message == "workflows/w.py is hidden by the package workflows/w/."


def test_a_syntax_error_is_one_line_with_its_place(write: Write) -> None:
    error = failure(write, {"workflows/w.py": "import tools\n", "tools.py": "x = 1\nif x\n"})
    assert error.code == "module_syntax"
    assert error.message == "tools.py:2: SyntaxError: expected ':'."
    assert error.hint == "The line is: if x"


def test_an_exception_while_importing_names_the_innermost_line_of_the_project(write: Write) -> None:
    tools = "import json\ndef read():\n    return json.loads('{')\nread()\n"
    error = failure(write, {"workflows/w.py": "import tools\n", "tools.py": tools})
    assert error.code == "module_failed"
    assert error.message.startswith("tools.py:3: JSONDecodeError: Expecting property name")
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize(
    ("statement", "message", "hint"),
    [
        ("import not_installed_x", "No module named 'not_installed_x'", "Install the package that provides"),
        ("import tools.wether", "No module named 'tools.wether'", "which has a `tools`"),
        ("from tools import wether", "cannot import name 'wether' from 'tools'", "which has a `tools`"),
        ("from flue import creat_agent", "cannot import name 'creat_agent' from 'flue'", "Did you mean create_agent?"),
        ("import flue; flue.tol", "module 'flue' has no attribute 'tol'", "Did you mean tool?"),
        ("from queue import mine", "cannot import name 'mine' from 'queue'", "rename yours"),
        ("raise SystemExit(3)", "SystemExit: 3", "must not end the process"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines", ""),
        ("raise ValueError", "w.py:1: ValueError", ""),
    ],
)
def test_a_failing_import_says_what_to_do(write: Write, statement: str, message: str, hint: str) -> None:
    files = {"workflows/w.py": f"{statement}\n{RUN}", "tools/weather.py": "", "tools/__init__.py": "", "queue.py": ""}
    error = failure(write, files)
    assert error.message.startswith("workflows/w.py:1: ")
    assert message in error.message
    assert hint in error.hint


def test_installed_packages_inside_the_project_are_not_taken_for_its_code(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ".venv/lib/site-packages"
    root = write({"workflows/w.py": "\nimport flue_test_broken\n", f"{site}/flue_test_broken.py": "1 / 0\n"})
    monkeypatch.syspath_prepend(root / site)
    assert failure(write, {}).message == "workflows/w.py:2: ZeroDivisionError: division by zero."


def test_a_definition_error_keeps_its_code_and_gains_file_and_line(write: Write) -> None:
    source = "from flue.definitions.agent import create_agent\n\nagent = create_agent(modle='x')\n"
    error = failure(write, {"agents/a.py": source})
    assert error.code == "invalid_definition"
    assert error.message == "agents/a.py:3: agent: unknown field modle."
    assert "Known fields" in error.hint


def test_the_project_is_loaded_from_the_working_directory_by_default(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write({"workflows/w.py": RUN}))
    project = load_project()
    project.unload()
    assert list(project.workflows) == ["w"]


TOOL = """
from flue.definitions.agent import create_agent
from flue.definitions.tool import tool

@tool
def look(place: {hint}) -> str:
    "Look somewhere."
    return ""

agent = create_agent(model="demo/x", tools=[look])
"""


def test_schemas_of_all_tools_are_built(load: Load) -> None:
    project = load({"agents/a.py": TOOL.format(hint="str")})
    build_schemas(project)
    look = project.agent("a").module.look
    assert look.parameters["properties"]["place"]["type"] == "string"


def test_a_schema_that_cannot_be_built_names_the_file(load: Load) -> None:
    project = load({"agents/a.py": TOOL.format(hint="object()")})
    with pytest.raises(ConfigError) as caught:
        build_schemas(project)
    assert caught.value.message.startswith("agents/a.py:")
    assert "look" in caught.value.message
