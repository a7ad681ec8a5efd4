"""What the last user message asks for: keywords to search, files it names, text to repeat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["search", "echo", "translate", "statement", "greeting"]

MAX_KEYWORDS = 6
# The rules look at no more than this of a message, in characters: some take time that grows with its square.
_MAX_READ = 8_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STOP_WORDS = _words(
    """
    a about after all also am an and any are as at be because been but by can could did do does doing done
    during each else for from get gets give given had happen happens has have having he her here him his how
    i if in into is it its just know let like make makes many may me mean means might more most much must my
    need needs no not now of on one only or other our out over own please possible same see shall she should
    show so some such support supported supports tell than that the their them then there these they thing things
    this those through to too under until up us use used uses using very want was way we were what when
    where which while who whom whose why will with without would you your yours
    """
)
# Words that tell an agent what to do rather than what to look for.
_ORDER_WORDS = _words(
    """
    agent answer article articles customer describe document documents explain file files find generate
    helpful helpfully look question quote read relevant reply report request respond response search
    sentence sentences source support summarise summarize summary user workspace write concise short briefly
    docs documentation
    """
)
_ACRONYMS = _words("api cli http https id json mcp sdk sql sse ui url")
_FILE_ENDINGS = "md|markdown|txt|rst|json|toml|yaml|yml|csv|py|html"

_PATH = re.compile(rf"(?<![\w/.%-])((?:/|\./)?[\w.%-]+(?:/[\w.%-]+)*\.(?:{_FILE_ENDINGS}))\b")
_WORD = re.compile(r"[^\W_](?:[\w.-]*\w)?")
_QUOTED = re.compile(r'"([^"]+)"|“([^“”]+)”|`([^`]+)`')
_LABEL = re.compile(r"^[ \t]*(?:[A-Z][\w ]{0,30}):[ \t]+(\S.*)", re.MULTILINE | re.DOTALL)
_ECHO = re.compile(r"\b(?:say|repeat|echo|reply with|respond with)\b", re.IGNORECASE)
_TRANSLATE = re.compile(r"\btranslat(?:e|ion)\b", re.IGNORECASE)
_GREETING = re.compile(
    r"^\W*(?:hi|hello|hey|thanks|thank you|good (?:morning|evening|day))\b[^?]{0,30}$", re.IGNORECASE
)
_STATEMENT = re.compile(
    r"\b(?:my \w+(?: \w+)? (?:is|are|was)|call me|remember|i (?:live|like|prefer|work|use))\b", re.IGNORECASE
)
_TROUBLE = re.compile(r"\bnot\b|n't\b|\bcannot\b|\b(?:broken|error|fail\w*|lost|wrong|forg[eo]t\w*)\b", re.IGNORECASE)
_QUESTION_START = re.compile(
    r"^\W*(?:how|what|when|where|which|who|why|can|could|do|does|did|is|are|should|will|would)\b", re.IGNORECASE
)


def stem(word: str) -> str:
    """Return the part of a word that its common inflections share (a light suffix rule, not a dictionary)."""
    low = word.lower()
    if len(low) <= 4 or not low.isalpha():
        return low[:-1] if re.fullmatch(r"[a-z]{3}s", low) and not low.endswith("ss") else low
    for suffix in ("ations", "ation", "ings", "ing", "ied", "ies", "ed", "es", "s", "e", "y"):
        root = low.removesuffix(suffix)
        if root != low and len(root) >= 3 and not (suffix == "s" and root.endswith("s")):
            doubled = suffix in ("ing", "ings", "ed") and root[-1] == root[-2] and root[-1] not in "ls"
            return root[:-1] if doubled else root
    return low


def _either_case(letter: str) -> str:
    return f"[{letter.upper()}{letter.lower()}]"


@dataclass(frozen=True)
class Keyword:
    """A word to search for."""

    word: str

    @cached_property
    def stem(self) -> str:
        """Return the word without its inflection."""
        return stem(self.word)

    @property
    def pattern(self) -> str:
        """Return a pattern for grep that accepts capital first letters (acronyms: any case)."""
        if self.word.lower() in _ACRONYMS or (self.word.isupper() and self.word.isalpha() and len(self.word) <= 4):
            return "".join(_either_case(letter) for letter in self.stem)
        text = self.word if not self.word.islower() else self.stem
        return re.sub(r"\b[^\W\d_]", lambda letter: _either_case(letter.group()), text.replace(".", "[.]"))

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Return what counts as a hit when text is ranked: a word that begins with the stem."""
        return re.compile(rf"(?<![A-Za-z0-9]){re.escape(self.stem)}", re.IGNORECASE)

    def count(self, text: str) -> int:
        """Return the number of hits in `text`."""
        return len(self.regex.findall(text))


@dataclass(frozen=True)
class Question:
    """A user message, understood as far as rules go.

    `text` is the part that asks; `subject` what stands in quotes or after a colon; `paths` the files it names.
    """

    text: str
    kind: Kind
    keywords: tuple[Keyword, ...]
    paths: tuple[str, ...]
    subject: str


def understand(message: str) -> Question:
    """Return what a user message asks for. Text about how to hand in a result should be removed before."""
    message = message[:_MAX_READ]
    asked = _asking_part(message)
    kind = _kind(message, asked)
    paths = tuple(dict.fromkeys(match.group(1) for match in _PATH.finditer(message)))
    bare = _PATH.sub(" ", asked)
    keywords = _keywords(bare) or _keywords(_PATH.sub(" ", message))
    return Question(asked, kind, keywords, paths, _subject(message))


def content_stems(text: str) -> set[str]:
    """Return the stems of the words of a text that are not stop words."""
    words = (match.group().lower().strip(".-") for match in _WORD.finditer(text))
    return {stem(word) for word in words if len(word) > 1 and word not in _STOP_WORDS}


def without_result_note(message: str) -> str:
    """Return the message without the closing paragraphs that explain the `finish` tool."""
    paragraphs = message.split("\n\n")
    while len(paragraphs) > 1 and re.search(r"\b(?:finish|give_up)\b", paragraphs[-1]):
        paragraphs.pop()
    return "\n\n".join(paragraphs)


def _asking_part(message: str) -> str:
    labelled = _LABEL.search(message)
    text = labelled.group(1) if labelled and not _TRANSLATE.search(message) else message
    sentences = re.split(r"(?<=[.!?])\s+|\n+", text.strip())
    questions = [sentence for sentence in sentences if sentence.rstrip('"”').endswith("?")]
    return " ".join(questions) if questions else text.strip()


def _subject(message: str) -> str:
    for match in reversed(list(_QUOTED.finditer(message))):
        return "".join(match.groups(default="")).strip()
    _, colon, after = message.partition(": ")
    return (after if colon else message).strip()


def _kind(message: str, asked: str) -> Kind:
    if _TRANSLATE.match(message.strip()):
        return "translate"
    if _GREETING.match(asked):
        return "greeting"
    if _ECHO.match(message.strip()):
        return "echo"
    asks = asked.endswith("?") or _QUESTION_START.match(asked) or _TROUBLE.search(asked) or _LABEL.search(message)
    return "statement" if _STATEMENT.search(asked) and not asks else "search"


def _keywords(text: str) -> tuple[Keyword, ...]:
    found: dict[str, Keyword] = {}
    is_question = text.rstrip().endswith("?") or _QUESTION_START.match(text)
    dropped = _STOP_WORDS if is_question else _STOP_WORDS | _ORDER_WORDS
    for match in _WORD.finditer(text):
        word = match.group().strip(".-")
        low = word.lower()
        if len(low) < 2 or low in dropped or low.isdigit():
            continue
        keyword = Keyword(word)
        found.setdefault(keyword.stem, keyword)
    return tuple(found.values())[:MAX_KEYWORDS]
