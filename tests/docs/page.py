"""Runs one page: its Python in one namespace, its commands in one sample project, its models on the fake server."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.sample_answers import SampleAnswers
from tests.docs.snippets import Block, SnippetError, read_blocks


class Page:
    """A page while it runs. `project` is an empty folder and the working directory."""

    def __init__(self, path: Path, project: Path, answers: SampleAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._project = project
        self._answers = answers
        self._monkeypatch = monkeypatch
        self._namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
        self._printed = ""

    def run(self) -> int:
        """Run all blocks and return how many were checked. Raises `AssertionError` where the page is wrong."""
        with asyncio.Runner() as runner:
            checked = sum(self._run_block(block, runner) for block in read_blocks(self.path))
        if left := self._answers.clear():
            raise AssertionError(f"{self.path}: {left} replies were given that no model call used")
        return checked

    def _run_block(self, block: Block, runner: asyncio.Runner) -> bool:
        asked = block.directives
        if "skip" in asked:
            return False
        if "reply" in asked:
            self._answers.enqueue(asked["reply"])
        if asked.get("run", "python") == "python" and block.language == "python" and "file" not in asked:
            self._python(block, runner)
        elif "run" in asked:
            self._expect(block, *self._command(block))
        elif "output" in asked:
            self._expect(block, self._printed)
        elif "file" in asked:
            self._write(block)
        else:
            return False
        return True

    def _write(self, block: Block) -> None:
        target = self._project / block.directives["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
        if target.suffix == ".py":
            compile(block.text, str(block.page), "exec")

    def _python(self, block: Block, runner: asyncio.Runner) -> None:
        # Blank lines in front make the line numbers of tracebacks those of the page.
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, self._namespace))  # noqa: S307 -- running the page is the point
            else:
                exec(code, self._namespace)  # noqa: S102
        self._printed = printed.getvalue()

    def _command(self, block: Block) -> tuple[str, str]:
        """Return what a command printed to stdout, and to both streams."""
        shown = [line[2:] for line in block.text.splitlines() if line.startswith("$ flue ")]
        asked = block.directives["run"]
        assert len(shown) != 1 or shown[0].split() == asked.split(), (
            f"{block.place}: shows {shown[0]!r}, runs {asked!r}"
        )
        command, _, source = asked.partition(" < ")
        program, *arguments = shlex.split(command)
        if program not in {"flue", "python"} or (program == "python" and not arguments):
            raise SnippetError(
                f"{block.place}: {asked!r} cannot be run; only `flue …` and `python FILE` can, skip others"
            )
        if source or "stdin" in block.directives:
            text = (self._project / source).read_text() if source else block.directives["stdin"].replace("\\n", "\n")
            status, out, both = _in_a_process(program, arguments, text)
        else:
            status, out, both = self._in_this_process(program, arguments)
        assert status in {None, 0}, f"{block.place}: exit status {status}\n{both}"
        return out, both

    def _in_this_process(self, program: str, arguments: list[str]) -> tuple[object, str, str]:
        """Run a command where the fake providers are registered, and without the cost of a process."""
        out, both = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(_Tee(out, both)), contextlib.redirect_stderr(both):
            try:
                if program == "flue":
                    from flue.cli.main import main

                    return main(arguments), out.getvalue(), both.getvalue()
                self._monkeypatch.setattr(sys, "argv", arguments)
                runpy.run_path(arguments[0], run_name="__main__")
            except SystemExit as stop:
                return stop.code, out.getvalue(), both.getvalue()
        return 0, out.getvalue(), both.getvalue()

    @staticmethod
    def _expect(block: Block, *printed: str) -> None:
        expected = "".join(line for line in block.text.splitlines(keepends=True) if not line.startswith("$ "))
        # A block that shows no output promises only that the command works.
        if expected.strip() and not any(matches(expected, text) for text in printed):
            raise AssertionError(f"{block.place}: expected\n{expected}\nbut it printed\n{printed[-1]}")


def _in_a_process(program: str, arguments: list[str], text: str) -> tuple[object, str, str]:
    """Run a command that reads its standard input."""
    run_flue = ["-c", "from flue.cli.main import main; raise SystemExit(main())"]
    command = [sys.executable, *(run_flue if program == "flue" else []), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stdout + done.stderr


class _Tee(io.StringIO):
    """Writes to two streams."""

    def __init__(self, *targets: io.StringIO) -> None:
        super().__init__()
        self._targets = targets

    def write(self, text: str) -> int:
        for target in self._targets:
            target.write(text)
        return len(text)


def matches(expected: str, printed: str) -> bool:
    """Say whether a text is what the page shows; `…` and `...` there stand for anything, lines included."""
    parts = [re.escape(part.strip("\n")) for part in re.split(r"\.\.\.|…", expected.strip())]
    return re.fullmatch(r"(?s:\s*" + r".*?".join(parts) + r"\s*)", printed) is not None
