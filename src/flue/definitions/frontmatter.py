"""Frontmatter: the fields between two `---` lines at the top of a Markdown file.

A strict reader of the part of YAML that such files need: text (plain, quoted or in `|` and `>` blocks) and maps of
text, with comments. Values are always text, as in StrictYAML: `1.0` and `yes` stay what the author wrote. What lies
beyond (lists, flow collections, anchors, tags, deeper maps) is not an error until somebody asks for that field, so a
file may carry fields for other programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_FRONTMATTER_CHARS = 64 * 1024
"""Frontmatter that is longer is refused."""

_FENCE = re.compile(r"---[ \t]*\Z")
_KEY = re.compile(r"""(?P<key>"[^"\\]*"|'[^']*'|[A-Za-z0-9_$][^\s:#"']*)[ \t]*:(?P<rest>[ \t].*|)\Z""")
_BLOCK = re.compile(r"(?P<style>[|>])(?:(?P<chomp>[+-])?(?P<indent>[1-9])?|(?P<i2>[1-9])(?P<c2>[+-]))(?:[ \t]+#.*)?\Z")
_ITEM = re.compile(r" *-(?: |\Z)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
# YAML 1.2.2, section 5.7.
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_QUOTE_IT = "put the text in quotes"


class FrontmatterError(ValueError):
    """The frontmatter cannot be read. `line` counts from 1 in the file; `problem` and `hint` are for its author."""

    def __init__(self, line: int, problem: str, hint: str = "") -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value beyond what this reader knows, or wrongly written: what is wrong, and where."""

    line: int
    problem: str


Value = str | Mapping[str, "str | Unreadable"] | Unreadable


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """Fields with their values and lines, the text after them, and the line on which that text begins."""

    values: Mapping[str, Value]
    lines: Mapping[str, int]
    body: str
    body_line: int


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str

    @property
    def blank(self) -> bool:
        return not self.text.strip()

    @property
    def comment(self) -> bool:
        return self.text.lstrip().startswith("#")

    @property
    def indent(self) -> int:
        return len(self.text) - len(self.text.lstrip(" "))


class _BadValueError(Exception):
    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.value = Unreadable(line, problem)


def parse_frontmatter(text: str) -> Frontmatter:
    """Split a file into fields and text; a byte order mark and any line endings are accepted.

    Raises `FrontmatterError` with the line when there is no frontmatter, it never ends, or a line in it is no field.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not _FENCE.match(lines[0]):
        raise FrontmatterError(1, "the file must begin with frontmatter, a line of three hyphens", "Begin it with ---.")
    end = next((at for at in range(1, len(lines)) if _FENCE.match(lines[at])), None)
    if end is None:
        raise FrontmatterError(1, "the frontmatter is never closed", "End it with a line of three hyphens: ---.")
    if sum(map(len, lines[:end])) > MAX_FRONTMATTER_CHARS:
        raise FrontmatterError(
            1, f"the frontmatter is longer than {MAX_FRONTMATTER_CHARS} characters", "Move text behind it."
        )
    content = [_Line(number, line) for number, line in enumerate(lines[1:end], 2)]
    for line in content:
        if _CONTROL.search(line.text):
            raise FrontmatterError(line.number, "there is a control character in the frontmatter", "Remove it.")
    values: dict[str, Value] = {}
    found: dict[str, int] = {}
    for key, number, rest, more in _entries(content, 0):
        if key in values:
            raise FrontmatterError(number, f'"{key}" stands there twice, first on line {found[key]}', "Remove one.")
        values[key], found[key] = _value(number, rest, more, 0), number
    return Frontmatter(values, found, "\n".join(lines[end + 1 :]), end + 2)


def _entries(lines: Iterable[_Line], indent: int) -> Iterator[tuple[str, int, str, list[_Line]]]:
    """Yield the fields of a map whose keys stand at `indent`: key, line, what follows the colon, further lines."""
    entry: tuple[str, int, str, list[_Line]] | None = None
    for line in lines:
        # A list may stand at the indentation of its key.
        of_list = entry and entry[2][:1] in ("", "#") and _ITEM.match(_first_of([*entry[3], line]))
        if line.blank or line.comment or line.indent > indent or of_list:
            if entry:
                entry[3].append(line)
            elif not line.blank and not line.comment:
                raise FrontmatterError(line.number, "the first field must not be indented", "Remove the spaces.")
            continue
        match = _KEY.match(line.text[indent:]) if line.indent == indent else None
        if match is None:
            raise FrontmatterError(line.number, _why_no_field(line), 'Write each field as "name: text".')
        if entry:
            yield entry
        entry = (match["key"].strip("\"'"), line.number, match["rest"].strip(), [])
    if entry:
        yield entry


def _first_of(lines: Iterable[_Line]) -> str:
    return next((line.text for line in lines if not line.blank and not line.comment), "")


def _why_no_field(line: _Line) -> str:
    shown = line.text.strip()[:40]
    if line.text.lstrip(" ").startswith("\t"):
        return "a tab is used for indentation; use spaces"
    if ":" in shown and _KEY.match(shown.replace(":", ": ", 1)):
        return f"{shown!r} needs a space after the colon"
    return f"{shown!r} is not a field"


def _value(line: int, rest: str, more: list[_Line], indent: int) -> Value:
    try:
        return _read(line, rest, more, indent)
    except _BadValueError as error:
        return error.value


def _read(line: int, rest: str, more: list[_Line], indent: int) -> Value:
    if not rest or rest.startswith("#"):
        while more and (more[0].blank or more[0].comment):
            more = more[1:]
        if not more:
            return ""
        first = more[0]
        _check_tabs(first)
        if _ITEM.match(first.text):
            raise _BadValueError(first.number, "is a list; write text")
        if _KEY.match(first.text.strip()):
            return _map(more, first.indent, nested=indent > 0)
        return _read(first.number, first.text.strip(), more[1:], indent)
    if match := _BLOCK.match(rest):
        return _block(match, more, indent)
    if rest[0] in "\"'":
        return _quoted(line, rest, more)
    return _plain(line, rest, more)


def _map(lines: list[_Line], indent: int, *, nested: bool) -> Mapping[str, str | Unreadable]:
    if nested:
        raise _BadValueError(lines[0].number, "is a map inside a map; write text")
    values: dict[str, str | Unreadable] = {}
    try:
        for key, line, rest, more in _entries(lines, indent):
            if key in values:
                raise _BadValueError(line, f'has "{key}" twice')
            value = _value(line, rest, more, indent)
            assert isinstance(value, str | Unreadable)
            values[key] = value
    except FrontmatterError as error:
        raise _BadValueError(error.line, f"cannot be read: {error.problem}") from None
    return values


def _plain(line: int, rest: str, more: list[_Line]) -> str:
    if rest[0] in "[{":
        raise _BadValueError(line, f"begins with {rest[0]}: lists and maps in brackets are not read; write text")
    if rest[0] in "&*!|>%@`,]}" or re.match(r"[-?:](?: |\Z)", rest):
        raise _BadValueError(line, f"begins with {rest[0]}, which has a meaning in YAML; {_QUOTE_IT}")
    parts: list[str] = []
    closed = False
    for part in (_Line(line, rest), *more):
        if closed and not (part.blank or part.comment):
            raise _BadValueError(part.number, "goes on after a comment")
        _check_tabs(part)
        text, comment = _without_comment(part.text.strip())
        if re.search(r":(?: |\t|\Z)", text):
            raise _BadValueError(part.number, f"has a colon and a space inside, a field in YAML; {_QUOTE_IT}")
        closed = closed or comment
        parts.append(text)
    return _fold(parts).strip()


def _without_comment(text: str) -> tuple[str, bool]:
    if text.startswith("#"):
        return "", True
    found = re.search(r"[ \t]#", text)
    return (text[: found.start()].rstrip(), True) if found else (text, False)


def _quoted(line: int, rest: str, more: list[_Line]) -> str:
    quote = rest[0]
    whole = "\n".join([rest, *(part.text for part in more)])
    pattern = r"'((?:[^']|'')*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
    match = re.match(pattern, whole, re.DOTALL)
    if match is None:
        raise _BadValueError(line, f"begins with {quote} and has no closing {quote}")
    after = whole[match.end() :]
    if any(rest and not rest.startswith("#") for rest in map(str.strip, after.split("\n"))) or after[:1] == "#":
        raise _BadValueError(line, "has text after the closing quote")
    inner = match[1]
    if quote == "'":
        return _fold(_between_quotes(inner)).replace("''", "'")
    # A backslash at the end of a line joins it to the next.
    inner = re.sub(r"(?<!\\)((?:\\\\)*)\\\n[ \t]*", r"\1", inner)
    return _ESCAPE.sub(lambda found: _unescape(found[1], line), _fold(_between_quotes(inner)))


def _between_quotes(text: str) -> list[str]:
    """Return the lines of a quoted text; white space counts at its two ends, not around its line breaks."""
    lines = text.split("\n")
    if len(lines) == 1:
        return lines
    return [lines[0].rstrip(), *(line.strip() for line in lines[1:-1]), lines[-1].lstrip()]


def _unescape(escape: str, line: int) -> str:
    if escape[0] in "xuU" and len(escape) > 1:
        code = int(escape[1:], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise _BadValueError(line, f"has \\{escape}, which is no character")
        return chr(code)
    if escape not in _ESCAPES:
        raise _BadValueError(line, f"has the unknown escape \\{escape}; write \\\\ for a backslash, or single quotes")
    return _ESCAPES[escape]


def _fold(lines: Iterable[str]) -> str:
    """Join lines with spaces; an empty line is a line break."""
    text, breaks = "", -1
    for line in lines:
        breaks += 1
        if line:
            text += _gap(breaks) + line
            breaks = 0
    return text + _gap(breaks)


def _gap(breaks: int) -> str:
    """Return what stands for a number of line breaks between two words."""
    return "\n" * (breaks - 1) if breaks > 1 else " " * breaks


def _block(match: re.Match[str], more: list[_Line], parent: int) -> str:
    chomp, digit = match["chomp"] or match["c2"], match["indent"] or match["i2"]
    first = next((line for line in more if not line.blank), None)
    if first is None or first.indent <= parent:
        return _after_block(more)
    indent = parent + int(digit) if digit else first.indent
    lines: list[str] = []
    for at, line in enumerate(more):
        if not line.blank and line.indent < indent:
            _after_block(more[at:])
            more = more[:at]
            break
        lines.append(line.text[indent:])
    while lines and not lines[-1]:
        lines.pop()
    trailing = "\n" * (len(more) - len(lines) + 1)
    text = "\n".join(lines) if match["style"] == "|" else _folded_block(lines)
    return text + {"-": "", "+": trailing}.get(chomp or "", "\n")


def _after_block(lines: list[_Line]) -> str:
    """Return nothing, having seen that only comments come after a block."""
    for line in lines:
        if not line.blank and not line.comment:
            _check_tabs(line)
            raise _BadValueError(line.number, "is indented less than the block it belongs to")
    return ""


def _folded_block(lines: Iterable[str]) -> str:
    text, breaks, deeper = "", 0, False
    started = False
    for line in lines:
        if not line:
            breaks += 1
            continue
        now_deeper = line[0] in " \t"
        if not started:
            text += "\n" * breaks
        elif deeper or now_deeper:
            text += "\n" * (breaks + 1)
        else:
            text += "\n" * breaks or " "
        text, breaks, deeper, started = text + line, 0, now_deeper, True
    return text


def _check_tabs(line: _Line) -> None:
    if line.text.lstrip(" ").startswith("\t") and not line.blank:
        raise _BadValueError(line.number, "is indented with a tab; use spaces")
