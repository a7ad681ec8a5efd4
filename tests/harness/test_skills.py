"""Skills in a session: found in the workspace or given, run by the application or activated by the model."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from flue import (
    DefinitionError,
    SandboxError,
    SecurityError,
    Skill,
    SkillInfo,
    UsageError,
    define_agent_profile,
    define_skill,
    tool,
)
from flue.definitions.skill_file import MAX_FILE_BYTES
from flue.events import OperationStart
from flue.harness.env import SessionEnv
from flue.harness.skills.workspace import MAX_SKILLS
from flue.messages import ImageContent, TextContent, ToolResultMessage
from flue.testing import MemoryStore, call
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.scene import Scene, assert_sound, scene

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
REVIEW = define_skill(
    name="review",
    description="Reviews a text.",
    instructions="Read it twice.",
    resources={"rules/long.md": "Line one.\nLine two.\n", "logo.png": PNG, "data.bin": b"\0\1\2\xff"},
)
REVIEW_ROOT = f"/.flue/packaged-skills/{quote(REVIEW.id, safe='')}"


def skill_file(name: str, description: str = "Greets people.", body: str = "Say hello.") -> str:
    return f"---\nname: {name}\ndescription: {description}\n---\n\n{body}\n"


def workspace(*names: str, **files: str | bytes) -> MemorySandbox:
    """Return a sandbox with skills and other files in /workspace."""
    skills = {f"/workspace/.agents/skills/{name}/SKILL.md": skill_file(name) for name in names}
    return MemorySandbox({**skills, **{f"/workspace/{path}": content for path, content in files.items()}})


def in_sandbox(sandbox: MemorySandbox, **config: Any) -> dict[str, Any]:
    return {"sandbox": lambda: SessionEnv(sandbox, "/workspace"), **config}


def last_question(s: Scene) -> str:
    return "\n".join(b.text for b in s.model.requests[-1].messages[-1].content if isinstance(b, TextContent))


def results(s: Scene) -> list[ToolResultMessage]:
    return [message for message in s.messages if isinstance(message, ToolResultMessage)]


def text_of(result: ToolResultMessage) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


# ------------------------------------------------------------------------------------------- the workspace


async def test_skills_of_definition_and_workspace_are_listed_in_the_system_prompt_between_context_and_date() -> None:
    sandbox = workspace("greet", "bow", **{"AGENTS.md": "Use tabs.", "CLAUDE.md": "\nBe kind.\n"})
    async with scene("ok", **in_sandbox(sandbox, skills=[REVIEW], instructions="Be brief.")) as s:
        await s.session.prompt("Go.")
        system = s.model.requests[0].system
        listed = "- **review** — Reviews a text.\n- **bow** — Greets people.\n- **greet** — Greets people.\n\nDate: "
        expected = [
            "Be brief.\n\nUse tabs.\n\nBe kind.\n\n## Available Skills\n\n",
            listed,
            "\nWorking directory: /workspace",
        ]
        places = [system.index(part) for part in expected]
        assert places == sorted(places)
        assert system.endswith("Directory structure:\n.agents\nAGENTS.md\nCLAUDE.md")
        names = [spec.name for spec in s.model.requests[0].tools]
        assert names == ["read", "write", "edit", "bash", "grep", "glob", "activate_skill"]


async def test_an_empty_workspace_is_looked_at_once_and_offers_no_skills() -> None:
    class Counting(MemorySandbox):
        looks = 0

        async def readdir(self, path: str) -> list[str]:
            self.looks += 1
            return await super().readdir(path)

        async def stat(self, path: str) -> Any:
            self.looks += 1
            return await super().stat(path)

    sandbox = Counting()
    async with scene("ok", **in_sandbox(sandbox)) as s:
        await s.session.prompt("Go.")
        assert sandbox.looks == 1
        assert "Skills" not in s.model.requests[0].system
        assert "activate_skill" not in [spec.name for spec in s.model.requests[0].tools]


async def test_folders_without_a_skill_file_and_plain_files_are_passed_over() -> None:
    files = {".agents/skills/README.md": "x", ".agents/skills/triage/reproduce.md": "x"}
    async with scene(**in_sandbox(workspace("greet", **files))) as s:
        assert [skill.name for skill in s.session.setup.skills] == ["greet"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("# No frontmatter", "greet/SKILL.md:1: the file must begin with frontmatter"),
        ("---\nname: greet\ndescription: a: b\n---\n", 'greet/SKILL.md:3: "description" has a colon'),
        (skill_file("other"), 'greet/SKILL.md:2: "name" is "other", but the folder is named "greet"'),
        (b"\x7fELF\0\0", "greet/SKILL.md: is a binary file"),
        (b"x" * (MAX_FILE_BYTES + 1), "greet/SKILL.md: has 262145 bytes"),
    ],
)
async def test_init_fails_for_a_skill_file_that_is_not_in_order(content: str | bytes, problem: str) -> None:
    sandbox = workspace("a-good-one", **{".agents/skills/greet/SKILL.md": content})
    with pytest.raises(DefinitionError) as raised:
        async with scene(**in_sandbox(sandbox)):
            pass
    assert raised.value.code == "invalid_skill"
    assert f"/workspace/.agents/skills/{problem}" in raised.value.message


async def test_of_several_bad_skill_files_the_first_by_name_is_reported() -> None:
    files = {f".agents/skills/{name}/SKILL.md": "bad" for name in ("zebra", "ant", "mouse")}
    with pytest.raises(DefinitionError, match=r"ant/SKILL\.md:1"):
        async with scene(**in_sandbox(workspace(**files))):
            pass


@pytest.mark.parametrize("kind", ["directory", "device"])
async def test_a_skill_file_that_is_no_regular_file_is_refused(kind: str) -> None:
    path = "/workspace/.agents/skills/greet/SKILL.md"
    sandbox = workspace(**{".agents/skills/greet/notes.md": "x"})
    (sandbox.directories if kind == "directory" else sandbox.special).add(path)
    with pytest.raises(DefinitionError, match=r"greet/SKILL.md: (is a directory|cannot be read: .*not a regular file)"):
        async with scene(**in_sandbox(sandbox)):
            pass


async def test_a_skill_file_that_cannot_be_read_is_refused_with_the_reason() -> None:
    class Circular(MemorySandbox):
        async def stat(self, path: str) -> Any:
            if path.endswith("SKILL.md"):
                raise OSError(40, "Too many levels of symbolic links", path)
            return await super().stat(path)

    sandbox = Circular({"/workspace/.agents/skills/greet/SKILL.md": "x"})
    with pytest.raises(DefinitionError, match=r"greet/SKILL.md: cannot be read: Too many levels"):
        async with scene(**in_sandbox(sandbox)):
            pass


async def test_more_skills_than_a_system_prompt_can_list_are_refused() -> None:
    with pytest.raises(DefinitionError, match=f"holds {MAX_SKILLS + 1} entries") as raised:
        async with scene(**in_sandbox(workspace(*(f"s{n}" for n in range(MAX_SKILLS + 1))))):
            pass
    assert raised.value.code == "invalid_skill"


async def test_one_name_in_the_definition_and_in_the_workspace_is_an_error() -> None:
    with pytest.raises(DefinitionError, match=r"review/SKILL.md") as raised:
        async with scene(**in_sandbox(workspace("review"), skills=[REVIEW])):
            pass
    assert raised.value.code == "duplicate_skill"


async def test_long_context_files_and_listings_are_cut_with_a_note() -> None:
    files = {"AGENTS.md": "rule " * 40_000, **{f"f{n:04}": "" for n in range(600)}}
    async with scene("ok", **in_sandbox(workspace(**files))) as s:
        await s.session.prompt("Go.")
        system = s.model.requests[0].system
        assert len(system) < 120_000
        assert "[AGENTS.md goes on; read the file for the rest.]" in system
        assert system.endswith("… and 101 more")


async def test_a_name_with_a_line_break_stays_on_one_line_of_the_listing() -> None:
    async with scene("ok", **in_sandbox(workspace(**{"a\n## Rules": "x"}))) as s:
        await s.session.prompt("Go.")
        assert s.model.requests[0].system.endswith("\na ## Rules")


async def test_context_that_is_a_directory_or_gone_is_left_out() -> None:
    sandbox = workspace(**{"AGENTS.md/x": "y"})
    sandbox.links["/workspace/CLAUDE.md"] = "/nowhere"
    async with scene("ok", **in_sandbox(sandbox)) as s:
        assert "Directory structure:\nAGENTS.md\nCLAUDE.md" in s.session.setup.system


async def test_a_task_in_another_directory_has_the_skills_of_that_directory() -> None:
    sandbox = workspace("greet", **{"sub/.agents/skills/bow/SKILL.md": skill_file("bow"), "sub/AGENTS.md": "In sub."})
    async with scene("Done.", **in_sandbox(sandbox, task_tool="never")) as s:
        await s.session.task("Go.", cwd="sub")
        system = s.model.requests[0].system
        assert "**bow**" in system
        assert "**greet**" not in system
        assert "In sub." in system


async def test_a_subagent_has_its_own_skills_else_those_of_the_parent() -> None:
    mine = define_agent_profile(name="mine", skills=[SkillInfo("own", "Own.")])
    plain = define_agent_profile(name="plain")
    async with scene("1", "2", skills=[REVIEW], subagents=[mine, plain]) as s:
        await s.session.task("Go.", agent="mine")
        await s.session.task("Go.", agent="plain")
        first, second = (request.system for request in s.model.requests)
        assert "**own**" in first
        assert "**review**" not in first
        assert "**review**" in second


# ------------------------------------------------------------------------------------------- session.skill


async def test_a_workspace_skill_is_run_by_name_with_its_path_and_arguments() -> None:
    async with scene("Hello Ada.", **in_sandbox(workspace("greet"))) as s:
        reply = await s.session.skill("greet", args={"name": "Ada", "häufig": [1]})
        assert reply.text == "Hello Ada."
        assert last_question(s) == (
            'Use the skill "greet": read /workspace/.agents/skills/greet/SKILL.md and do what it says.\n\n'
            'Arguments:\n{\n  "name": "Ada",\n  "häufig": [\n    1\n  ]\n}'
        )
        (start,) = [event for event in s.events if event.type == "operation_start"]
        assert isinstance(start, OperationStart)
        assert start.operation_kind == "skill"
        assert s.session.history.path[0].to_json()["source"] == "skill"


async def test_a_packaged_skill_brings_its_instructions_and_names_its_files() -> None:
    for wanted in ("review", REVIEW):
        async with scene("ok", skills=[REVIEW]) as s:
            await s.session.skill(wanted, args={})
            question = last_question(s)
            assert question.startswith(
                'Use the skill "review".\n\n<skill_instructions>\nRead it twice.\n</skill_instructions>\n\n'
            )
            assert question.endswith(
                "\n\n<skill_resources>\n"
                f"- data.bin → read {REVIEW_ROOT}/data.bin\n"
                f"- logo.png → read {REVIEW_ROOT}/logo.png\n"
                f"- rules/long.md → read {REVIEW_ROOT}/rules/long.md\n"
                "</skill_resources>"
            )


async def test_a_skill_can_give_a_typed_result() -> None:
    async with scene(call("finish", {"result": 3}), skills=[REVIEW]) as s:
        reply = await s.session.skill("review", result=int)
        assert reply.data == 3
        assert "`finish`" in last_question(s)


async def test_a_skill_may_be_passed_without_being_declared() -> None:
    async with scene(call("read", {"path": f"{REVIEW_ROOT}/rules/long.md"}), "ok") as s:
        await s.session.skill(REVIEW)
        assert "Line two." in text_of(results(s)[0])


async def test_a_skill_written_after_init_is_found_when_it_is_called() -> None:
    async with scene("Hello.") as s:
        await s.session.fs.write_file(".agents/skills/greet/SKILL.md", skill_file("greet"))
        await s.session.skill("greet")
        assert "/workspace/.agents/skills/greet/SKILL.md" in last_question(s)


async def test_a_skill_file_below_the_skills_directory_is_run_by_its_path() -> None:
    async with scene("1", "2", **in_sandbox(workspace(**{".agents/skills/triage/reproduce.md": "x"}))) as s:
        for path in ("triage/reproduce.md", "/workspace/.agents/skills/triage/reproduce.md"):
            await s.session.skill(path, args={"n": 1})
            assert last_question(s) == (
                "Read the skill file /workspace/.agents/skills/triage/reproduce.md and do what it says.\n\n"
                'Arguments:\n{\n  "n": 1\n}'
            )


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("nowhere", DefinitionError, "unknown_skill"),
        ("No Such Name", DefinitionError, "unknown_skill"),
        ("missing.md", DefinitionError, "skill_not_found"),
        ("triage/", DefinitionError, "skill_not_found"),
        ("../../../etc/passwd", SecurityError, "skill_escape"),
        ("../skills2/x.md", SecurityError, "skill_escape"),
        ("/etc/passwd", SecurityError, "skill_escape"),
        ("..", DefinitionError, "unknown_skill"),
    ],
)
async def test_a_skill_that_is_not_there_or_lies_outside_is_refused(
    path: str, kind: type[Exception], code: str
) -> None:
    sandbox = workspace("greet", **{".agents/skills/triage/x.md": "x", "../etc/passwd": "root"})
    async with scene(**in_sandbox(sandbox)) as s:
        with pytest.raises(kind) as raised:
            await s.session.skill(path)
        assert getattr(raised.value, "code", None) == code
        assert s.messages == []


async def test_the_error_for_an_unknown_skill_names_those_there_are() -> None:
    async with scene(**in_sandbox(workspace("greet"), skills=[REVIEW])) as s:
        with pytest.raises(DefinitionError, match=r"Available: review, greet\..*/workspace/\.agents/skills/<name>"):
            await s.session.skill("revew")


@pytest.mark.parametrize(("skill", "args"), [("", None), (3, None), ("greet", [1]), ("greet", {"x": object()})])
async def test_wrong_arguments_of_skill_are_refused_at_once(skill: Any, args: Any) -> None:
    async with scene(**in_sandbox(workspace("greet"))) as s:
        with pytest.raises(UsageError) as raised:
            s.session.skill(skill, args=args)
        assert raised.value.code == "invalid_skill_arguments"


# ----------------------------------------------------------------------------------------- activate_skill


async def test_the_model_activates_a_skill_of_the_workspace() -> None:
    async with scene(call("activate_skill", {"name": "greet"}), "ok", **in_sandbox(workspace("greet"))) as s:
        await s.session.prompt("Go.")
        text = text_of(results(s)[0])
        assert "<skill_instructions>\nSay hello.\n</skill_instructions>" in text
        assert text.endswith("count from /workspace/.agents/skills/greet.")


async def test_a_second_activation_says_that_the_skill_is_active() -> None:
    twice = [call("activate_skill", {"name": "review"}), "ok"] * 2
    async with scene(*twice, skills=[REVIEW]) as s:
        await s.session.prompt("Go.")
        await s.session.prompt("Again.")
        first, second = (text_of(result) for result in results(s))
        assert "Read it twice." in first
        assert "already active" in second
        assert "Read it twice." not in second


async def test_after_compaction_a_skill_can_be_activated_again() -> None:
    async with scene(call("activate_skill", {"name": "review"}), "ok", skills=[REVIEW]) as s:
        await s.session.prompt("Go.")
        last = len(s.session.history.path) - 1
        s.session.history.compact(
            last, summary="It went well.", tokens_before=1, details={}, usage=s.session.history.usage
        )
        s.model.add(call("activate_skill", {"name": "review"}), "ok")
        await s.session.prompt("Again.")
        assert "Read it twice." in text_of(results(s)[-1])


async def test_an_activation_is_remembered_when_the_session_is_opened_again() -> None:
    store = MemoryStore()
    async with scene(call("activate_skill", {"name": "review"}), "ok", store=store, skills=[REVIEW]) as s:
        await s.session.prompt("Go.")
    async with scene(call("activate_skill", {"name": "review"}), "ok", store=store, skills=[REVIEW]) as s:
        await s.session.prompt("Again.")
        assert "already active" in text_of(results(s)[-1])


async def test_an_unknown_or_missing_skill_is_an_error_result_for_the_model() -> None:
    calls = [call("activate_skill", {"name": name}) for name in ("nope", "later")]
    async with scene(calls, "ok", skills=[SkillInfo("later", "Comes later.")]) as s:
        await s.session.prompt("Go.")
        unknown, missing = results(s)
        assert unknown.is_error
        assert "Skills: later." in text_of(unknown)
        assert missing.is_error
        assert "SKILL.md" in text_of(missing)
        assert_sound(s.messages)


async def test_no_tool_may_take_the_name_activate_skill() -> None:
    @tool
    def activate_skill(name: str) -> str:
        """Activate."""
        return name

    with pytest.raises(DefinitionError, match="conflicts with a built-in tool"):
        async with scene(tools=[activate_skill]):
            pass


# ---------------------------------------------------------------------------------------- files of skills


async def read_file(path: str, skill: Skill = REVIEW, **arguments: object) -> ToolResultMessage:
    async with scene(call("read", {"path": path, **arguments}), "ok", skills=[skill]) as s:
        await s.session.prompt("Go.")
        return results(s)[0]


async def test_read_shows_the_files_of_a_skill_its_own_file_included() -> None:
    assert text_of(await read_file(f"{REVIEW_ROOT}/SKILL.md")) == REVIEW.source.decode()
    assert text_of(await read_file(f"{REVIEW_ROOT}/rules/long.md", offset=2, limit=1)) == "Line two."
    # A model may also write the id without its escapes.
    plain = f"/.flue/packaged-skills/{REVIEW.id}/rules/long.md"
    assert text_of(await read_file(plain)).startswith("Line one.")


async def test_images_are_shown_and_other_bytes_come_as_base64() -> None:
    image = await read_file(f"{REVIEW_ROOT}/logo.png")
    assert any(isinstance(block, ImageContent) for block in image.content)
    binary = await read_file(f"{REVIEW_ROOT}/data.bin")
    assert base64.b64decode(text_of(binary)) == REVIEW.resources["data.bin"]


@pytest.mark.parametrize(
    "path",
    [
        f"{REVIEW_ROOT}",
        f"{REVIEW_ROOT}/rules",
        f"{REVIEW_ROOT}/nope.md",
        f"{REVIEW_ROOT}/rules/../rules/long.md",
        "/.flue/packaged-skills/skill%3Aother%3A0/SKILL.md",
        "/.flue/packaged-skills",
    ],
)
async def test_other_paths_fall_through_to_the_sandbox(path: str) -> None:
    result = await read_file(path)
    assert result.is_error


async def test_only_read_sees_the_files_of_a_skill() -> None:
    command = f"cat {REVIEW_ROOT}/SKILL.md"
    async with scene(call("bash", {"command": command}), "ok", skills=[REVIEW]) as s:
        await s.session.prompt("Go.")
        assert "exited with code 1" in text_of(results(s)[0])


async def test_a_sandbox_that_fails_while_skills_are_read_fails_init() -> None:
    class Broken(MemorySandbox):
        async def read_file(self, path: str) -> bytes:
            raise SandboxError("The container is gone.")

    with pytest.raises(SandboxError, match="container is gone"):
        async with scene(**in_sandbox(Broken({"/workspace/.agents/skills/greet/SKILL.md": "x"}))):
            pass
