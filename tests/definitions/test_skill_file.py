from __future__ import annotations

import pytest

from flue import DefinitionError, Skill, SkillInfo, create_agent, define_agent_profile, define_skill
from flue.definitions.skill_file import MAX_FILE_BYTES, SkillFile, read_skill_file


def read(text: str | bytes, directory: str = "greet") -> SkillFile:
    return read_skill_file(text.encode() if isinstance(text, str) else text, "greet/SKILL.md", directory)


def with_fields(fields: str, body: str = "Say hello.") -> str:
    return f"---\nname: greet\ndescription: Greets.\n{fields}---\n{body}\n"


def test_all_fields_are_read() -> None:
    file = read(
        "---\n"
        "# a comment\n"
        "name: greet\n"
        "description: Greets a person.   # another\n"
        "license: Apache-2.0\n"
        "compatibility: Needs git\n"
        "metadata:\n"
        '  author: "Ada"\n'
        "  version: 1.0\n"
        "allowed-tools: Read Bash(git add:*) Grep\n"
        "---\n"
        "\n"
        "Say hello.\n"
    )
    assert file == SkillFile(
        "greet",
        "Greets a person.",
        "Say hello.",
        "Apache-2.0",
        "Needs git",
        {"author": "Ada", "version": "1.0"},
        ("Read", "Bash(git add:*)", "Grep"),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Greets: a person", None),
        ("'It''s: a greeting'", "It's: a greeting"),
        ('"Says \\"hi\\" \\u00e9\\n2"', 'Says "hi" é\n2'),
        (">-\n  Greets\n  people.\n\n  Twice.", "Greets people.\nTwice."),
        ("|\n  Greets\n    people.", "Greets\n  people."),
        ("|2+\n    Indented.\n", "Indented."),
        ("Greets\n  people\n\n  twice", "Greets people\ntwice"),
        ("\n  On the next line", "On the next line"),
        ('"over\n  two lines"', "over two lines"),
        ("true", "true"),
        ("it's a#b #1", "it's a#b"),
    ],
)
def test_text_is_read_as_yaml_has_it(written: str, meant: str | None) -> None:
    text = f"---\nname: greet\ndescription: {written}\n---\n"
    if meant is None:
        with pytest.raises(DefinitionError, match=r'greet/SKILL.md:3: "description" .*quotes'):
            read(text)
    else:
        assert read(text).description == meant


def test_a_byte_order_mark_windows_line_ends_and_rules_in_the_text_do_no_harm() -> None:
    file = read(b"\xef\xbb\xbf---\r\nname: greet\r\ndescription: Greets.\r\n--- \r\nOne.\r\n\r\n---\r\n\r\nTwo.\r\n")
    assert (file.description, file.instructions) == ("Greets.", "One.\n\n---\n\nTwo.")


def test_fields_for_other_programs_are_passed_over_whatever_they_hold() -> None:
    file = read(with_fields("tags: [a, b]\nhooks:\n- on: start\n  do: {x: y}\ndeep:\n  a:\n    b: c\nodd: &x *y\n"))
    assert file.name == "greet"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("", ":1", "must begin with frontmatter"),
        ("# Greet\n", ":1", "must begin with frontmatter"),
        ("----\nname: greet\n----\n", ":1", "must begin with frontmatter"),
        ("---\nname: greet\n", ":1", "never closed"),
        ("---\n---\n", ":1", 'no "name"'),
        ("---\nname: greet\n---\n", ":1", 'no "description"'),
        ("---\nname: greet\ndescription:\n---\n", ":3", '"description" must not be empty'),
        ("---\nname: greet\ndescription: ''\n---\n", ":3", '"description" must not be empty'),
        (f"---\nname: greet\ndescription: {'x' * 1025}\n---\n", ":3", "1025 characters; 1024 are allowed"),
        ("---\nname: Greet\ndescription: x\n---\n", ":2", "lower-case letters"),
        ("---\nname: greet--me\ndescription: x\n---\n", ":2", "lower-case letters"),
        (f"---\nname: {'g' * 65}\ndescription: x\n---\n", ":2", "65 characters; 64 are allowed"),
        ("---\nname: other\ndescription: x\n---\n", ":2", 'the folder is named "greet"'),
        ("---\nname: [greet]\ndescription: x\n---\n", ":2", '"name" begins with ['),
        ("---\nname: greet\nname: greet\n---\n", ":3", '"name" stands there twice, first on line 2'),
        ("---\nname:greet\n---\n", ":2", "needs a space after the colon"),
        ("---\n name: greet\n---\n", ":2", "must not be indented"),
        ("---\n\tname: greet\n---\n", ":2", "tab is used for indentation"),
        ("---\njust text\n---\n", ":2", "'just text' is not a field"),
        ("---\nname: greet\ndescription: - x\n---\n", ":3", "begins with -"),
        ("---\nname: greet\ndescription: &a x\n---\n", ":3", "begins with &"),
        ("---\nname: greet\ndescription: 'x\n---\n", ":3", "no closing '"),
        ('---\nname: greet\ndescription: "x" y\n---\n', ":3", "text after the closing quote"),
        ('---\nname: greet\ndescription: "\\q"\n---\n', ":3", "unknown escape"),
        ('---\nname: greet\ndescription: "\\ud800"\n---\n', ":3", "which is no character"),
        ("---\nname: greet\ndescription:\n  - x\n---\n", ":4", "is a list"),
        ("---\nname: greet\ndescription:\n  a: x\n---\n", ":3", "must be text, not a map"),
        ("---\nname: greet\ndescription: |\n    x\n  y\n---\n", ":5", "indented less"),
        (with_fields("license: [MIT]\n"), ":4", '"license" begins with ['),
        (with_fields(f"compatibility: {'x' * 501}\n"), ":4", "501 characters; 500 are allowed"),
        (with_fields("metadata: x\n"), ":4", "must be a map"),
        (with_fields("metadata:\n  a: [1]\n"), ":5", '"metadata.a" begins with ['),
        (with_fields("metadata:\n  a:\n    b: c\n"), ":6", "a map inside a map"),
        (with_fields("metadata:\n  a: 1\n  a: 2\n"), ":6", 'has "a" twice'),
        (with_fields("allowed-tools:\n  - Read\n"), ":5", '"allowed-tools" is a list'),
        ("---\nname: greet\ndescription: a\x07b\n---\n", ":3", "control character"),
        (b"---\nname: greet\n\x00\x01---\n", "", "is a binary file"),
        (b"---\nname: greet\ndescription: \xff\n---\n", ":3", "not UTF-8"),
        (b"x" * (MAX_FILE_BYTES + 1), "", "a SKILL.md may have 262144"),
        ("---\n" + "# xx\n" * 20_000 + "---\n", ":1", "longer than 65536 characters"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_with_file_and_line(text: str | bytes, place: str, problem: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        read(text)
    assert raised.value.code == "invalid_skill"
    assert raised.value.message.startswith(f"greet/SKILL.md{place}: ")
    assert problem in raised.value.message


@pytest.mark.parametrize("pattern", ["a: {", '"', "'", "- ", "a:\n  ", "\\", '"\\', "|\n", ">\n ", "#", "  ", "? "])
def test_a_file_made_to_be_slow_is_read_in_no_time(pattern: str) -> None:
    # The test's own time limit would end it.
    text = f"---\nname: greet\ndescription: {pattern * (60_000 // len(pattern))}\n---\n"
    with pytest.raises(DefinitionError):
        read(text)


def test_a_skill_can_be_written_in_code() -> None:
    made = define_skill(
        name="greet",
        description='Says "hi".',
        instructions="\nSay hello.\n",
        resources={"b.txt": "é", "a/x.bin": b"\0"},
    )
    assert made.instructions == "Say hello."
    assert dict(made.resources) == {"a/x.bin": b"\0", "b.txt": "é".encode()}
    assert list(made.resources) == ["a/x.bin", "b.txt"]
    again = read(made.source)
    assert (again.name, again.description, again.instructions) == ("greet", 'Says "hi".', "Say hello.")
    assert made.id == define_skill(name="greet", description="x", instructions="y").id


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": "Greet"}, "lower-case letters"),
        ({"name": 3}, "name must be text"),
        ({"description": "x" * 1025}, "1025 characters"),
        ({"instructions": " "}, "instructions must not be empty"),
        ({"instructions": "\ud800"}, "not valid Unicode"),
        ({"instructions": "x" * MAX_FILE_BYTES}, "instructions may have 262144 bytes"),
        ({"resources": {"../x": ""}}, "not inside the skill"),
        ({"resources": {"/x": ""}}, "not inside the skill"),
        ({"resources": {"a//x": ""}}, "not inside the skill"),
        ({"resources": {"a\\x": ""}}, "cannot be the path"),
        ({"resources": {"SKILL.md": ""}}, "cannot be named SKILL.md"),
        ({"resources": {"x": 3}}, "must be text or bytes"),
    ],
)
def test_a_skill_in_code_is_as_strict_as_a_file(changed: dict[str, object], problem: str) -> None:
    fields = {"name": "greet", "description": "Greets.", "instructions": "Say hello.", **changed}
    with pytest.raises(DefinitionError, match=problem):
        define_skill(**fields)  # type: ignore[arg-type]


def test_an_agent_takes_skills_as_objects_and_as_mappings() -> None:
    profile = define_agent_profile(
        model=False,
        skills=[
            SkillInfo("a", "By name."),
            {"name": "b", "description": "By name, too."},
            {"name": "c", "description": "With all.", "instructions": "Do it.", "resources": {"x": "y"}},
        ],
    )
    assert [type(skill) for skill in profile.skills] == [SkillInfo, SkillInfo, Skill]


def test_a_path_in_the_list_of_skills_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(DefinitionError, match=r"skill\('skills/greet/SKILL.md'\)"):
        create_agent(model=False, skills=["skills/greet/SKILL.md"])  # type: ignore[call-overload]
