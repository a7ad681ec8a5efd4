"""Which section of which file answers the question best: keyword hits, weighted by how rare the keyword is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flue.models.librarian.evidence import Evidence
from flue.models.librarian.question import Keyword, content_stems

MAX_FILES_READ = 4
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_DEFINES = re.compile(r"\W*what (?:is|are)\b", re.IGNORECASE)
_IDENTIFIER = re.compile(r"\w+(?:_\w+)+")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_PROSE = (".md", ".markdown", ".txt", ".rst")
_LESS_LIKELY = re.compile(r"(?:^|/)(?:changelog|license|contributing|readme)", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
_ANSWER_CHARACTERS = 1_000


@dataclass(frozen=True)
class Section:
    """A piece of a file under one heading. `line` is where it starts, counted from 1."""

    path: str
    heading: str
    line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A section that answers: `quote` is one sentence of it, word for word, `line` where that begins.

    `coverage` is the share (0 to 1) of the question's keywords, by weight, that the section has.
    """

    path: str
    heading: str
    line: int
    quote: str
    answer: str
    coverage: float
    score: float


class Weights:
    """How much each keyword tells: rare ones more."""

    def __init__(self, evidence: Evidence) -> None:
        self.keywords = evidence.question.keywords
        paths = set(evidence.files) | {hit.path for hit in evidence.hits} | set(evidence.texts)
        count = max(len(paths), 1)
        self._weight: dict[str, float] = {}
        self.missing: list[str] = []
        """The keywords that nothing mentions."""
        for keyword in self.keywords:
            having = {hit.path for hit in evidence.hits if keyword.count(hit.text)}
            having |= {path for path, text in evidence.texts.items() if keyword.count(text)}
            self._weight[keyword.stem] = math.log(1.5 + count / max(len(having), 1))
            if not having:
                self.missing.append(keyword.word)

    def __getitem__(self, keyword: Keyword) -> float:
        return self._weight[keyword.stem]

    @property
    def total(self) -> float:
        """Return the weight of all keywords."""
        return sum(self._weight.values()) or 1.0


def files_to_read(evidence: Evidence) -> list[str]:
    """Return the most promising files that were not read yet, best first."""
    weights = Weights(evidence)
    lines: dict[str, list[str]] = {path: [] for path in evidence.files}
    for hit in evidence.hits:
        lines.setdefault(hit.path, []).append(hit.text)
    scores = {path: _file_score(path, found, weights) for path, found in lines.items()}
    best = sorted((path for path in scores if scores[path] > 0), key=lambda path: (-scores[path], path))
    return [path for path in best[:MAX_FILES_READ] if path not in evidence.texts]


def _file_score(path: str, found: Sequence[str], weights: Weights) -> float:
    text, headings = "\n".join(found), "\n".join(line for line in found if line.startswith("#"))
    score = 0.0
    for keyword in weights.keywords:
        named = 1.5 * bool(keyword.count(path)) + 2.0 * bool(keyword.count(headings))
        score += weights[keyword] * (math.sqrt(min(keyword.count(text), 9)) + named)
    return score * (1.0 if path.lower().endswith(_PROSE) else 0.6) * (0.5 if _LESS_LIKELY.search(path) else 1.0)


def findings(evidence: Evidence) -> list[Finding]:
    """Return what was found in the files that were read, best first. Empty when nothing fits."""
    weights = Weights(evidence)
    named = tuple(path.removeprefix("./") for path in evidence.question.paths)
    judged = (
        _judge(section, evidence, weights, path.endswith(named))
        for path, text in evidence.texts.items()
        for section in sections(path, text)
    )
    found = [finding for finding in judged if finding is not None]
    return sorted(found, key=lambda item: (-item.score, item.path, item.line))


def sections(path: str, text: str) -> list[Section]:
    """Cut Markdown at its headings; text without headings is one section named after its file."""
    heading, start, current, fenced = path.rsplit("/", 1)[-1], 1, list[str](), False
    cut: list[Section] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= bool(_FENCE.match(line))
        title = None if fenced else _HEADING.match(line)
        if title is None:
            current.append(line)
            continue
        if any(entry.strip() for entry in current):
            cut.append(Section(path, heading, start, tuple(current)))
        heading, start, current = title.group(2), number + 1, []
    if any(entry.strip() for entry in current):
        cut.append(Section(path, heading, start, tuple(current)))
    return cut


def _judge(section: Section, evidence: Evidence, weights: Weights, named: bool) -> Finding | None:
    body = "\n".join(section.lines)
    heading = _heading_words(section.heading, evidence)
    heading_value = _heading_value(heading, evidence)
    covered = score = 0.0
    for keyword in weights.keywords:
        in_body, in_heading, in_path = keyword.count(body), keyword.count(heading), keyword.count(section.path)
        if in_body or in_heading:
            covered += weights[keyword]
        score += weights[keyword] * (
            math.sqrt(min(in_body, 4)) + heading_value * bool(in_heading) + 0.7 * bool(in_path)
        )
    coverage = covered / weights.total
    if not covered and not named:
        return None
    score = (score + _neighbours(f"{section.heading}\n{body}", weights)) * (0.25 + coverage)
    score *= (0.5 if _LESS_LIKELY.search(section.path) else 1.0) / (1 + len(section.lines) / 150)
    score *= 1.0 - 0.3 * sum(line.startswith("|") for line in section.lines) / len(section.lines)
    answer = _answer(section, weights)
    line, quote = _quote(section, weights)
    return Finding(section.path, section.heading, line, quote, answer, coverage, score + (5 if named else 0))


def _heading_words(heading: str, evidence: Evidence) -> str:
    """Return the heading; of one that is an identifier nothing, unless the question names it: its parts mean little."""
    name = heading.strip("`").lower()
    named = any(keyword.stem == name for keyword in evidence.question.keywords)
    return "" if _IDENTIFIER.fullmatch(name) and not named else heading


def _heading_value(heading: str, evidence: Evidence) -> float:
    """Return how much a hit in a heading counts: most when the heading is about nothing else than the question."""
    if _DEFINES.match(heading) and not _DEFINES.match(evidence.question.text):
        return 0.5
    stems = content_stems(heading)
    asked = {keyword.stem for keyword in evidence.question.keywords}
    return 1.0 + 3.0 * len(stems & asked) / max(len(stems), 1)


def _neighbours(text: str, weights: Weights) -> float:
    """Return the weight of neighbouring keywords of the question that also stand close together in the text."""
    bonus = 0.0
    for first, second in zip(weights.keywords, weights.keywords[1:], strict=False):
        near = rf"{first.regex.pattern}\w*\W+(?:\w+\W+){{0,2}}?{second.regex.pattern}"
        if re.search(near, text, re.IGNORECASE):
            bonus += weights[first] + weights[second]
    return bonus


def _value(text: str, weights: Weights) -> float:
    return sum(weights[keyword] * math.sqrt(min(keyword.count(text), 3)) for keyword in weights.keywords)


def _blocks(lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return the paragraphs, lists, tables and fenced blocks with the offset of their first line."""
    blocks: list[tuple[int, list[str]]] = []
    fenced = False
    fresh = True
    for offset, line in enumerate(lines):
        if not fenced and (not line.strip() or line.lstrip().startswith("<!--")):
            fresh = True
            continue
        starts_fence = not fenced and bool(_FENCE.match(line))
        if fresh or starts_fence:
            blocks.append((offset, []))
            fresh = False
        blocks[-1][1].append(line)
        if _FENCE.match(line):
            fenced = not fenced
            fresh = not fenced
    return blocks


def _answer(section: Section, weights: Weights) -> str:
    blocks = _blocks(section.lines)
    if not blocks:
        return ""
    best = max(range(len(blocks)), key=lambda index: _block_value(index, blocks[index][1], weights))
    chosen: list[str] = []
    for index, (_, lines) in enumerate(blocks):
        text = "\n".join(lines)
        if sum(map(len, chosen)) + len(text) > _ANSWER_CHARACTERS and chosen:
            chosen += [] if best < index else ["…", "\n".join(blocks[best][1])]
            break
        chosen.append(text)
    return "\n\n".join(chosen).strip()


def _block_value(position: int, lines: list[str], weights: Weights) -> float:
    return 0.0 if _FENCE.match(lines[0]) else _value("\n".join(lines), weights) * _early(position)


def _early(position: int) -> float:
    """Return how much more the first paragraph of a section counts: it says what the section is about."""
    return 1.3 if position == 0 else 1.0


def _quote(section: Section, weights: Weights) -> tuple[int, str]:
    """Return the line number and the text of the sentence with the best hits; code only where there is no prose."""
    blocks = _blocks(section.lines)
    prose = [block for block in blocks if not _FENCE.match(block[1][0])] or blocks
    candidates = [
        (_value(text, weights) * _early(position), -offset, text)
        for position, block in enumerate(prose)
        for offset, text in _sentences(*block)
    ]
    if not candidates:
        return section.line, section.heading
    _, offset, text = max(candidates)
    return section.line - offset, text


def _sentences(offset: int, lines: list[str]) -> list[tuple[int, str]]:
    if _FENCE.match(lines[0]) or lines[0].lstrip().startswith(("|", "{", "[")):
        return [(offset + index, line.strip()) for index, line in enumerate(lines) if line.strip(" |:-`~")]
    if _ITEM.match(lines[0]):
        return _items(offset, lines)
    text = "\n".join(lines)
    found = re.finditer(r"\S.*?(?:[.!?:](?=\s|$)|\Z)", text, re.DOTALL)
    return [(offset + text.count("\n", 0, match.start()), " ".join(match.group().split())) for match in found]


def _items(offset: int, lines: list[str]) -> list[tuple[int, str]]:
    items: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        if _ITEM.match(line) or not items:
            items.append((offset + index, line.strip()))
        else:
            start, text = items[-1]
            items[-1] = (start, f"{text} {line.strip()}")
    return items
