from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.rooms import ROOT

# Each pattern holds one character in brackets so that this file does not match itself. None begins with `\b`, as the
# search would try every place of 7 MB.
FORBIDDEN = {
    "the address of a package registry": re.compile(
        r"p[y]pi\.org|py[t]honhosted|registry\.n[p]mjs|registry\.y[a]rnpkg|deb\.d[e]bian\.org|static\.c[r]ates\.io"
    ),
    "a path or a word of one particular machine": re.compile(
        r"/w[o]rk/|/f[a]rm/|bash_j[o]bs|/h[o]me/(?!user\b)\w+/|/r[o]ot/"
    ),
    "a private key or an API key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE K[E]Y|sk-(?:ant-api|proj-)[\w-]{30}|AKIA[0-9A-Z]{16}\b"
    ),
    "an unresolved merge": re.compile(r"^(?:<{7} |>{7} )", re.MULTILINE),
}


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would add, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def findings(text: str) -> list[str]:
    return [f"{what}: {match.group()!r}" for what, pattern in FORBIDDEN.items() if (match := pattern.search(text))]


def test_no_tracked_file_names_a_registry_a_machine_or_a_secret() -> None:
    found = [
        f"{path}: {finding}"
        for path in tracked_files()
        for finding in findings(f"{path}\n" + (ROOT / path).read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_no_tracked_file_is_larger_than_two_megabytes() -> None:
    assert not [path for path in tracked_files() if (ROOT / path).stat().st_size > 2_000_000]


@pytest.mark.parametrize(
    "text",
    [
        "https://py" + "pi.org/simple",
        "files.pytho" + "nhosted.org",
        "https://registry.np" + "mjs.org/ws",
        "/wor" + "k/main",
        "/ho" + "me/alice/x",
        "-----BEGIN RSA PRIVATE KE" + "Y-----",
        "<<<<<" + "<< HEAD",
    ],
)
def test_a_forbidden_word_is_found(text: str) -> None:
    assert len(findings(text)) == 1


@pytest.mark.parametrize("text", ["on PyPI", "/home/user/notes.md", "sk-test", "workspace/work"])
def test_an_ordinary_word_is_allowed(text: str) -> None:
    assert findings(text) == []
