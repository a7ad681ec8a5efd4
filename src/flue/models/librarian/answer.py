"""Composing the answer: the quoted text for people, the material for a typed result."""

from __future__ import annotations

from dataclasses import dataclass

from flue.models.librarian.evidence import Evidence
from flue.models.librarian.fill import Material
from flue.models.librarian.question import understand
from flue.models.librarian.ranking import Finding, Weights, findings

NOTICE = "(offline demo model: rules, not a language model)"

_FILES_NAMED = 5


@dataclass(frozen=True)
class Reply:
    """An answer. `text` is complete; `remark` is the one line that goes beside a typed result."""

    text: str
    remark: str
    material: Material


def compose(evidence: Evidence, can_search: bool) -> Reply:
    """Answer from the evidence alone; say so when there is nothing to answer with."""
    question = evidence.question
    match question.kind:
        case "translate":
            return _plain(evidence, f"I cannot translate. The text was: {question.subject}", echo=question.subject)
        case "echo":
            return _plain(evidence, question.subject, echo=question.subject)
        case "greeting":
            return _plain(evidence, "Ask me about the files in the workspace: I search them and quote what fits.")
        case "statement":
            return _plain(evidence, f"Noted: “{question.text}” It stays in this conversation.")
        case "search":
            return _searched(evidence, can_search)


def _searched(evidence: Evidence, can_search: bool) -> Reply:
    if evidence.answers:
        name, text = evidence.answers[-1]
        return _plain(evidence, f"{text}\n\nThat is what the tool {name} gave.", echo=text)
    found = findings(evidence)
    said = _said_before(evidence)
    if said and (not found or found[0].coverage < 1):
        return _plain(evidence, f"Earlier in this conversation you said: “{said}”", echo=said)
    if found:
        return _quoted(evidence, found)
    if not can_search:
        return _plain(evidence, "I cannot look it up: I was offered no tool to search with (grep, glob, read, bash).")
    return _plain(evidence, _nothing(evidence))


def _plain(evidence: Evidence, text: str, echo: str = "") -> Reply:
    material = Material(evidence.question, (), answer=text, echo=echo)
    return Reply(f"{text}\n\n{NOTICE}", f"{text.splitlines()[0] if text else ''} {NOTICE}".strip(), material)


def _quoted(evidence: Evidence, found: list[Finding]) -> Reply:
    best = found[0]
    place = f"{best.path}, line {best.line}"
    others = [finding for finding in found[1:] if finding.path != best.path and finding.score > best.score / 3][:2]
    missing = Weights(evidence).missing
    caution = f"Nothing there mentions {' or '.join(missing)}; this is the closest." if missing else ""
    answer = "\n\n".join(filter(None, (caution, best.answer or best.quote)))
    parts = [f"From {place}, “{best.heading}”:", answer]
    if others:
        parts.append("See also " + ", ".join(f"{other.path}, line {other.line}" for other in others) + ".")
    parts.append(NOTICE)
    material = Material(evidence.question, tuple(found), answer=answer)
    return Reply("\n\n".join(parts), f"Found in {place} {NOTICE}.", material)


def _nothing(evidence: Evidence) -> str:
    words = ", ".join(keyword.word for keyword in evidence.question.keywords)
    text = f"I found nothing in the workspace about: {words}." if words else "The question has no word to search for."
    if evidence.failures:
        text += f" A tool failed: {evidence.failures[0].splitlines()[0]}"
    if files := sorted(set(evidence.files))[:_FILES_NAMED]:
        text += f" Files there: {', '.join(files)}."
    return text


def _said_before(evidence: Evidence) -> str:
    """Return what the user stated earlier, when it has every keyword of the question."""
    keywords = evidence.question.keywords
    for message in reversed(evidence.said_before):
        if understand(message).kind == "statement" and keywords and all(key.count(message) for key in keywords):
            return message.strip()
    return ""
