"""Turns what a user's module raises while it is loaded into one line: file, line, what happened, what to do."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType

from flue.errors import ConfigError, FlueError, error_message
from flue.project.layout import shown
from flue.project.package import PREFIX, PrivatePackage

_FLUE = Path(__file__).resolve().parents[1]
_NOT_IN_MODULE = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_PRIVATE_NAME = re.compile(rf"{PREFIX}\d+\.")


def module_failure(error: BaseException, file: Path, root: Path, package: PrivatePackage) -> ConfigError:
    """Return the error to raise when loading `file` raised `error`; `file` is named if no better place is known."""
    error = single_cause(error)
    place = _place(error, package.source_root)
    where = f"{shown(place[0], root)}:{place[1]}" if place else shown(file, root)
    if isinstance(error, FlueError):
        return ConfigError(f"{where}: {error.message}", code=error.code, hint=error.hint)
    text = " ".join(_PRIVATE_NAME.sub("", _text(error)).split()).rstrip(".")
    code = "module_syntax" if isinstance(error, SyntaxError) else "module_failed"
    return ConfigError(
        f"{where}: {type(error).__name__}: {text}." if text else f"{where}: {type(error).__name__}.",
        code=code,
        hint=_hint(error, root, package),
    )


def single_cause(error: BaseException) -> BaseException:
    """Return the exception that a group holds when it holds only one, else `error`."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def meant(error: BaseException) -> str:
    """Return the name that a mistyped attribute or import is probably meant to be, empty when none is near."""
    owner: object = None
    name = ""
    if isinstance(error, AttributeError):
        owner, name = error.obj, error.name or ""
    elif isinstance(error, ImportError) and (found := _NOT_IN_MODULE.match(str(error))):
        owner, name = sys.modules.get(found[2]), found[1]
    close = get_close_matches(name, dir(owner), n=1) if owner is not None else []
    return close[0] if close else ""


def place_of(error: BaseException, source_root: Path, root: Path) -> str | None:
    """Return `file:line` of the innermost of the project's frames that `error` passed through."""
    place = _place(error, source_root)
    return f"{shown(place[0], root)}:{place[1]}" if place else None


def _text(error: BaseException) -> str:
    # str(SyntaxError) repeats the file and line.
    return error.msg if isinstance(error, SyntaxError) else error_message(error)


def _place(error: BaseException, source_root: Path) -> tuple[Path, int] | None:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        file = Path(error.filename)
        if _is_theirs(file, source_root):
            return file, error.lineno
    found: tuple[Path, int] | None = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if _is_theirs(file, source_root):
            found = file, trace.tb_lineno
        trace = trace.tb_next
    return found


def _is_theirs(file: Path, source_root: Path) -> bool:
    # A virtual environment, or a checkout of Flue, may lie in the project itself.
    installed = "site-packages" in file.parts or file.is_relative_to(_FLUE)
    return file.is_relative_to(source_root) and not installed


def _hint(error: BaseException, root: Path, package: PrivatePackage) -> str:
    if isinstance(error, SyntaxError):
        return f"The line is: {error.text.strip()}" if error.text and error.text.strip() else ""
    if isinstance(error, ImportError) and error.name and (hint := _import_hint(error, error.name, root, package)):
        return hint
    if isinstance(error, SystemExit):
        return "A module must not end the process while it is imported."
    name = meant(error)
    return f"Did you mean {name}?" if name else ""


def _import_hint(error: ImportError, name: str, root: Path, package: PrivatePackage) -> str:
    top = name.partition(".")[0]
    source = shown(package.source_root, root) if package.source_root != root else "the project"
    if top in sys.stdlib_module_names or top == "flue":
        if not package.holds(top):
            return ""
        owner = "flue" if top == "flue" else "the standard library"
        return (
            f"`{top}` is also a name of {owner}, which comes first: rename yours in {source}, or import it relatively."
        )
    if top.startswith(PREFIX):
        return f"It is looked for in {source}, which has a `{_PRIVATE_NAME.sub('', name).partition('.')[0]}`."
    if not isinstance(error, ModuleNotFoundError):
        return ""
    return f"Install the package that provides `{top}` where flue is installed, or create {top}.py in {source}."
