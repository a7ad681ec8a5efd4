from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flue import Role
from flue.errors import ConfigError
from flue.project.loader import load_project

WORKFLOW = "def run(ctx): ...\n"


def roles_of(root: Path, files: Mapping[str, str | bytes]) -> dict[str, Role]:
    """Return the roles of a project with these files in `roles/`."""
    for name, content in {
        "workflows/w.py": WORKFLOW,
        **{f"roles/{name}": text for name, text in files.items()},
    }.items():
        path = root / ".flue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    project = load_project(root)
    project.unload()
    return dict(project.roles)


def test_roles_are_read_from_the_source_root(tmp_path: Path) -> None:
    whole = """---
name: code-reviewer
description: "Reviews: strictly"
model: anthropic/claude-sonnet-4-6
thinkingLevel: high
---

Find what is wrong.

Be kind.
"""
    files = {"code-reviewer.md": whole, "poet.md": "Write in verse.\n", "_draft.md": "---", "notes.txt": "x"}
    assert roles_of(tmp_path, files) == {
        "code-reviewer": Role(
            name="code-reviewer",
            description="Reviews: strictly",
            model="anthropic/claude-sonnet-4-6",
            thinking_level="high",
            instructions="Find what is wrong.\n\nBe kind.",
        ),
        "poet": Role(name="poet", instructions="Write in verse."),
    }


def test_a_project_without_roles_has_none(tmp_path: Path) -> None:
    assert roles_of(tmp_path, {}) == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("---\nname: a\n", "roles/r.md:1: the frontmatter is never closed"),
        ("---\nname: a\n---\nx", 'roles/r.md:2: "name" is "a", but the file is named "r"'),
        ("---\nname: r\ntools: x\n---\nx", 'roles/r.md:3: "tools" is no field of a role'),
        ("---\n\nmodel: [a]\n---\nx", 'roles/r.md:3: "model" begins with ['),
        ("---\nmodel:\n  a: b\n---\nx", 'roles/r.md:2: "model" must be text'),
        ("---\nmodel:\n---\nx", 'roles/r.md:2: "model" must be text that is not empty'),
        ("---\nthinkingLevel: deep\n---\nx", 'roles/r.md:2: "thinkingLevel" must be one of off, minimal'),
        ("---\nname: r\n---\n\n", 'roles/r.md: role "r": instructions must not be empty'),
        ("", 'roles/r.md: role "r": instructions must not be empty'),
        (b"a\nb\xff", "roles/r.md:2: the text is not UTF-8"),
        ("x" * 300_000, "roles/r.md: has 300000 bytes; 262144 are allowed"),
    ],
)
def test_a_wrong_role_is_an_error_naming_file_and_line(tmp_path: Path, content: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        roles_of(tmp_path, {"r.md": content})
    assert caught.value.code == "invalid_role"
    assert caught.value.message.startswith(f".flue/{problem}")


def test_a_file_whose_name_no_role_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'roles/a b\.md: role "a b": name must be letters'):
        roles_of(tmp_path, {"a b.md": "x"})
