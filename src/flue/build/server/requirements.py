"""The locked requirements of a build: every package with its version and its hashes, resolved by uv or by pip.

What is resolved: the project's own dependencies (`[project]` in pyproject.toml, else requirements.txt) and Flue with
its server. The versions of a uv.lock beside them, and of the build before, are kept as far as they still fit, so that
building again changes nothing by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flue.build.dependencies import dependencies_of, normalised, run_resolver, write_lines
from flue.build.own_wheel import NAME, installed, is_from_index, write_wheel
from flue.errors import ConfigError

WHEELS = "wheels"
_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==\S+")


@dataclass(frozen=True, slots=True)
class Lock:
    """The text of a requirements file, how many packages it pins, what resolved them, and notices for the user."""

    text: str
    packages: int
    resolver: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Question:
    """What is to be resolved: files of requirements, for a project, with the wheels in `links`."""

    project: Path
    asked: list[Path]
    links: Path | None
    before: Path | None
    scratch: Path


def lock_requirements(project: Path, folder: Path, *, before: Path | None, uv: str | None) -> Lock:
    """Resolve what a project needs; write Flue's wheel to `folder`/wheels where it comes from no index.

    `before` is the lock of an earlier build. Without `uv` pip resolves, for this platform only. Raises `ConfigError`:
    `lock_failed`, `not_installed`.
    """
    own = installed()
    wheel: Path | None = None
    if not is_from_index(own):
        (folder / WHEELS).mkdir()
        wheel = write_wheel(own, folder / WHEELS)
    with tempfile.TemporaryDirectory() as scratch:
        asked = [write_lines(Path(scratch, "flue.in"), [f"{NAME}[server]=={own.version}"])]
        dependencies = dependencies_of(project)
        if isinstance(dependencies, Path):
            asked.append(dependencies)
        else:
            asked.append(write_lines(Path(scratch, "project.in"), dependencies))
        links = None if wheel is None else wheel.parent
        question = _Question(project, asked, links, before, Path(scratch))
        pins = _pins(_with_pip(question) if uv is None else _with_uv(uv, question))
    if wheel is not None:
        pins[NAME] = [f"{NAME}=={own.version}", f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"]
    lines = ["# Written by flue build. Install it with: pip install --require-hashes -r requirements.txt"]
    lines += ["--only-binary :all:", *([f"--find-links {WHEELS}"] if wheel else [])]
    lines += [" \\\n    ".join(pins[name]) for name in sorted(pins)]
    text = "\n".join(lines) + "\n"
    return Lock(text, len(pins), "uv") if uv is not None else Lock(text, len(pins), "pip", (_pip_notice(),))


def _pip_notice() -> str:
    place = f"{sys.platform} and Python {_python()}"
    return f"Locked for {place} only, because uv is not installed; with uv the lock fits every platform."


def _with_uv(uv: str, question: _Question) -> str:
    output = question.scratch / "requirements.txt"
    if question.before is not None:  # uv keeps the versions that it finds there
        output.write_text(_only_pins(question.before.read_text(encoding="utf-8")), encoding="utf-8")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", _python(), "--generate-hashes"]
    command += ["--python", sys.executable, "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--output-file", str(output), *_link_options(question.links)]
    if (question.project / "uv.lock").is_file():
        export = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-hashes", "--no-header", "--no-annotate"]
        kept = run_resolver([*export, "--no-emit-project", "--directory", str(question.project)])
        command += ["--constraints", str(write_lines(question.scratch / "uv.lock.txt", _constraints(kept)))]
    run_resolver([*command, *map(str, question.asked)])
    return output.read_text(encoding="utf-8")


def _with_pip(question: _Question) -> str:
    report = question.scratch / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-input"]
    command += ["--only-binary", ":all:", "--report", str(report), *_link_options(question.links)]
    for file in question.asked:
        command += ["--requirement", str(file)]
    if question.before is None:
        run_resolver(command)
    else:
        kept = _constraints(question.before.read_text(encoding="utf-8"))
        try:
            run_resolver([*command, "--constraint", str(write_lines(question.scratch / "before.txt", kept))])
        except ConfigError:  # the versions of before do not fit any more
            run_resolver(command)
    lines = []
    for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:{digest}")
    return "\n".join(lines)


def _link_options(links: Path | None) -> list[str]:
    return [] if links is None else ["--find-links", str(links)]


def _pins(text: str) -> dict[str, list[str]]:
    """Return pin and hashes by the packages' normalised names."""
    pins: dict[str, list[str]] = {}
    for requirement in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not requirement.strip() or requirement.startswith(("#", "--")):
            continue
        head, *hashes = re.split(r"\s+(?=--hash=)", requirement.strip())
        match = _PIN.match(head)
        if match is None or not hashes:
            raise ConfigError(
                f"{head!r} cannot be locked: it comes from no package index.",
                code="lock_failed",
                hint="Publish it, or copy its modules into the project.",
            )
        pins[normalised(match[1])] = [head, *sorted(hashes)]
    return pins


def _only_pins(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("#", "--")))


def _constraints(text: str) -> list[str]:
    """Return the pins of a requirements file without extras and hashes, which constraints may not have."""
    lines = (line.split(" \\")[0].split(" --hash")[0].strip() for line in text.splitlines())
    return [re.sub(r"\[[^]]*\]", "", line) for line in lines if _PIN.match(line)]


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
