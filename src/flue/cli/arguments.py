"""The command line's parser.

argparse, because the command must start fast: importing it takes 5 ms where click takes 130 on the same machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from flue.errors import ConfigError


class ArgumentsError(ConfigError):
    """The command line is wrong; `usage` says how it is written."""

    default_code = "invalid_arguments"

    def __init__(self, message: str, usage: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of exiting with 2, and takes no shortened options."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise `ArgumentsError` with what argparse found wrong."""
        raise ArgumentsError(f"{self.prog}: {message}.", self.format_usage(), self._guess(message))

    def _guess(self, message: str) -> str:
        """Return a hint for the first unknown option that is written nearly like one there is."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        for word in unknown.split():
            close = get_close_matches(word.partition("=")[0], self._option_string_actions, n=1, cutoff=0.8)
            if word.startswith("--") and close:
                return f"Did you mean {close[0]}?"
        return ""


class _Once(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} was given twice; only one environment file is read")
        setattr(namespace, self.dest, values)


def add_project_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that loads a project."""
    parser.add_argument("--root", metavar="DIR", help="project root (default: the working directory)")
    parser.add_argument("--config", metavar="PATH", help="configuration file (default: flue.toml or pyproject.toml)")
    parser.add_argument("--env", metavar="FILE", action=_Once, help="environment file (default: .env)")
    parser.add_argument("--target", metavar="TARGET", help="server or cloudflare (default: server)")


def add_json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that has data printed for programs."""
    parser.add_argument("--json", action="store_true", help=what)
