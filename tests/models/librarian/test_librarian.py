"""The offline demo model, driven through its public surface over a small corpus of files."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flue.messages import (
    AssistantMessage,
    Json,
    Message,
    TextContent,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    UserMessage,
)
from flue.models.librarian import Librarian
from flue.ports import Delta, Model, ModelRequest

CORPUS = Path(__file__).parent / "corpus"
FILES = {path.relative_to(CORPUS).as_posix(): path.read_text("utf-8") for path in CORPUS.rglob("*") if path.is_file()}
STRING = {"type": "string"}


def spec(name: str, *fields: str) -> ToolSpec:
    properties = dict.fromkeys(fields, STRING)
    return ToolSpec(
        name, f"{name} of the workspace", {"type": "object", "properties": properties, "required": [*fields]}
    )


SEARCH = (spec("read", "path"), spec("bash", "command"), spec("grep", "pattern"), spec("glob", "pattern"))
GIVE_UP = spec("give_up", "reason")


def finish(**properties: Any) -> ToolSpec:
    required = [name for name, field in properties.items() if "default" not in field]
    return ToolSpec("finish", "hand in", {"type": "object", "properties": properties, "required": required})


def grep(pattern: str, files: Mapping[str, str]) -> str:
    hits = [
        f"./{path}:{number}:{line}"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    return "\n".join(hits) or "No matches found."


def run_tool(call: ToolCall, files: Mapping[str, str]) -> str:
    arguments = call.arguments
    match call.name:
        case "grep":
            return grep(arguments["pattern"], files)
        case "glob":
            return "\n".join(f"./{path}" for path in files if fnmatch.fnmatch(path, f"*{arguments['pattern']}"))
        case "read":
            return files[arguments["path"].removeprefix("/workspace/")]
        case "bash" if arguments["command"].startswith("cat "):
            return files[arguments["command"][4:].strip("'")]
        case "bash":
            return grep("|".join(re.findall(r"-e '([^']+)'", arguments["command"])), files)
        case other:
            return f"result of {other}"


class Conversation:
    """Drives the model as the harness does, with canned tools, and keeps what happened."""

    def __init__(self, files: Mapping[str, str] = FILES, tools: tuple[ToolSpec, ...] = SEARCH) -> None:
        self.files = files
        self.tools = ToolSpecs(tools)
        self.messages: list[Message] = []
        self.deltas: list[Delta] = []
        self.calls: list[ToolCall] = []

    async def ask(self, *texts: str) -> AssistantMessage:
        self.messages.append(UserMessage(tuple(map(TextContent, texts))))
        for _ in range(6):
            answer = await self._answer()
            self.messages.append(answer)
            ends = [call for call in answer.tool_calls if call.name in ("finish", "give_up")]
            if ends or not answer.tool_calls:
                return answer
            for call in answer.tool_calls:
                self.calls.append(call)
                self.messages.append(self._result(call))
        raise AssertionError("the model never came to an end")

    def _result(self, call: ToolCall) -> ToolResultMessage:
        try:
            return ToolResultMessage(call.id, call.name, (TextContent(run_tool(call, self.files)),))
        except KeyError as error:
            return ToolResultMessage(call.id, call.name, (TextContent(f"no such file: {error}"),), is_error=True)

    async def _answer(self) -> AssistantMessage:
        request = ModelRequest("You are careful.", Transcript(self.messages), self.tools)
        pieces = [piece async for piece in Librarian().stream(request)]
        assert isinstance(pieces[-1], AssistantMessage)
        self.deltas = [piece for piece in pieces if isinstance(piece, Delta)]
        return pieces[-1]


async def fill(question: str, files: Mapping[str, str] = FILES, /, **properties: Any) -> Json:
    answer = await Conversation(files, (*SEARCH, finish(**properties), GIVE_UP)).ask(question)
    (call,) = answer.tool_calls
    assert call.name == "finish", call.arguments
    return call.arguments


@pytest.mark.parametrize(
    ("question", "path", "words"),
    [
        ("How do I resume a stream?", "guides/streams.md", "Last-Event-ID"),
        ("how can I reset my password", "guides/passwords.md", "account settings"),
        ("Can I get my money back? What about refunds?", "billing.md", "14 days"),
        ("Which Python version is needed to install it?", "install.md", "3.11"),
        ("What does E1002 mean?", "troubleshooting.txt", "port is taken"),
        ("How many requests per minute are allowed?", "guides/limits.md", "120"),
        ("What is the upload limit?", "guides/limits.md", "25 MB"),
        ("How do I set an HTTP proxy?", "guides/configuration.md", "KESTREL_PROXY"),
        ("Where do I put my API key?", "guides/configuration.md", "KESTREL_TOKEN"),
        ("When are invoices sent?", "billing.md", "first day"),
        ("How do I upgrade?", "install.md", "--upgrade"),
        ("Does closing the stream end the job?", "guides/streams.md", "not the job"),
        ("Is two-factor login supported?", "guides/passwords.md", "authenticator"),
        ("Which payment methods do you take?", "billing.md", "Visa"),
    ],
)
async def test_finds_the_file_and_the_words_that_answer_a_question(question: str, path: str, words: str) -> None:
    answer = await Conversation().ask(question)
    assert answer.text.startswith(f"From {path}, line ")
    assert words in answer.text


async def test_the_quoted_line_number_is_the_line_of_the_quote() -> None:
    filled = await fill("How long do refunds take?", file=STRING, line={"type": "integer"}, quote=STRING)
    line = FILES[filled["file"]].splitlines()[filled["line"] - 1]
    assert line.startswith(filled["quote"][:20])
    assert " ".join(FILES[filled["file"]].split()).find(filled["quote"]) >= 0


async def test_searches_with_several_calls_at_once_then_reads_then_answers() -> None:
    conversation = Conversation()
    await conversation.ask("How do I resume a stream?")
    names = [call.name for call in conversation.calls]
    assert names[:6] == ["glob", "glob", "grep", "grep", "grep", "grep"]
    assert set(names[6:]) == {"read"}
    assert len({call.id for call in conversation.calls}) == len(names)


async def test_falls_back_to_the_shell_when_it_is_the_only_tool() -> None:
    conversation = Conversation(tools=(spec("bash", "command"),))
    answer = await conversation.ask("How do I resume a stream?")
    assert {call.name for call in conversation.calls} == {"bash"}
    assert answer.text.startswith("From guides/streams.md")


async def test_says_that_it_has_no_tool_to_search_with() -> None:
    answer = await Conversation(tools=()).ask("How do I resume a stream?")
    assert "no tool to search with" in answer.text


async def test_says_that_nothing_was_found_and_what_files_there_are() -> None:
    answer = await Conversation().ask("Who won the zeppelin regatta?")
    assert "found nothing" in answer.text
    assert "billing.md" in answer.text


async def test_every_text_answer_says_that_it_is_the_offline_demo_model() -> None:
    for question in ("How do I resume a stream?", "Who won the zeppelin regatta?", "Hello!", "Translate to French: Hi"):
        assert "offline demo model" in (await Conversation().ask(question)).text


async def test_reads_a_file_that_the_question_names() -> None:
    files = {"data/config.json": '{"rules": ["Be concise"], "tone": "professional"}'}
    conversation = Conversation(files)
    answer = await conversation.ask("Read the config in /workspace/data/config.json.\nGenerate a report about: rules")
    assert conversation.calls[0].arguments == {"path": "/workspace/data/config.json"}
    assert '"tone": "professional"' in answer.text


async def test_instructions_around_the_question_are_not_searched_for() -> None:
    conversation = Conversation()
    await conversation.ask(
        "You are a support agent. Search the workspace for articles relevant\n"
        "to this request, then write a helpful response.\n\nCustomer: I forgot my password"
    )
    assert searched(conversation) == ["[Ff]orgot", "[Pp]assword"]


def searched(conversation: Conversation) -> list[str]:
    """Return what was searched for, first in headings, then everywhere."""
    patterns = [call.arguments["pattern"] for call in conversation.calls if call.name == "grep"]
    headings, everywhere = patterns[: len(patterns) // 2], patterns[len(patterns) // 2 :]
    assert headings == [f"^#+ .*{pattern}" for pattern in everywhere]
    return everywhere


@pytest.mark.parametrize("piece", ["\n", "a-", "“", "word ", "Note: "])
async def test_a_huge_message_is_read_in_time(piece: str) -> None:
    before = time.process_time()
    await Conversation().ask("How do I upgrade? " + piece * (1_000_000 // len(piece)))
    assert time.process_time() - before < 5


async def test_the_note_about_finish_is_not_part_of_the_question() -> None:
    conversation = Conversation(tools=(*SEARCH, finish(answer=STRING), GIVE_UP))
    await conversation.ask("How do I upgrade?\n\nWhen you are done call `finish` with the password, or `give_up`.")
    assert searched(conversation) == ["[Uu]pgrad"]


async def test_a_note_of_the_harness_is_not_part_of_the_question() -> None:
    conversation = Conversation()
    await conversation.ask(
        "[This goes on in a new sandbox: files are gone. Look before you rely on one.]", "How to upgrade?"
    )
    assert searched(conversation) == ["[Uu]pgrad"]


async def test_a_note_between_results_is_no_new_question() -> None:
    conversation = Conversation()
    before = await conversation.ask("How do I upgrade?")
    conversation.messages.pop()
    again = await conversation.ask("[This goes on in a new sandbox: files are gone.]")
    assert again.text == before.text


async def test_fills_a_schema_by_the_names_of_its_fields() -> None:
    filled = await fill(
        "How do I resume a stream?",
        answer=STRING,
        source_file=STRING,
        quote=STRING,
        confidence={"enum": ["low", "medium", "high"]},
        found={"type": "boolean"},
        files={"type": "array", "items": STRING},
        matches={"type": "array", "items": {"type": "object", "properties": {"path": STRING}, "required": ["path"]}},
        score={"type": "number", "minimum": 0, "maximum": 1},
        note={"anyOf": [STRING, {"type": "null"}]},
    )
    assert filled["source_file"] == "guides/streams.md"
    assert filled["answer"].startswith("Send the last event id")
    assert filled["quote"] in filled["answer"]
    assert filled["confidence"] == "high"
    assert filled["found"] is True
    assert filled["files"][0] == "guides/streams.md"
    assert filled["matches"][0] == {"path": "guides/streams.md"}
    assert filled["score"] == 1


async def test_a_schema_is_filled_through_references() -> None:
    tool = finish(result={"$ref": "#/$defs/Answer"})
    tool.parameters["$defs"] = {
        "Answer": {"type": "object", "properties": {"file": {"$ref": "#/$defs/Path"}}, "required": ["file"]},
        "Path": STRING,
    }
    answer = await Conversation(tools=(*SEARCH, tool)).ask("How do I upgrade?")
    assert answer.tool_calls[0].arguments == {"result": {"file": "install.md"}}


async def test_an_unanswered_question_fills_a_schema_honestly() -> None:
    filled = await fill(
        "Who won the zeppelin regatta?",
        answer=STRING,
        source=STRING,
        confidence={"enum": ["high", "medium", "low"]},
        found={"type": "boolean"},
        quotes={"type": "array", "items": STRING},
        line={"anyOf": [{"type": "integer"}, {"type": "null"}]},
    )
    assert "found nothing" in filled.pop("answer")
    assert filled == {"source": "", "confidence": "low", "found": False, "quotes": [], "line": None}


@pytest.mark.parametrize(
    "field",
    [
        {"type": "integer"},
        {"type": "string", "format": "date"},
        {"type": "array", "items": STRING, "minItems": 1},
        {"enum": ["red", "green"]},
    ],
)
async def test_gives_up_when_a_schema_cannot_be_filled_honestly(field: Json) -> None:
    conversation = Conversation(tools=(*SEARCH, finish(value=field), GIVE_UP))
    answer = await conversation.ask("Who won the zeppelin regatta?")
    assert [call.name for call in answer.tool_calls] == ["give_up"]
    assert '"value"' in answer.tool_calls[0].arguments["reason"]


async def test_gives_up_when_its_result_is_refused() -> None:
    conversation = Conversation(tools=(*SEARCH, finish(answer=STRING), GIVE_UP))
    first = await conversation.ask("How do I upgrade?")
    (call,) = first.tool_calls
    conversation.messages.append(
        ToolResultMessage(call.id, "finish", (TextContent("answer is too long"),), is_error=True)
    )
    second = await conversation._answer()
    assert [call.name for call in second.tool_calls] == ["give_up"]
    assert "too long" in second.tool_calls[0].arguments["reason"]


async def test_does_not_pretend_to_translate() -> None:
    question = "Translate to French: Hello"
    conversation = Conversation()
    assert "cannot translate" in (await conversation.ask(question)).text
    assert conversation.calls == []
    filled = await fill(question, translation=STRING, confidence={"enum": ["low", "medium", "high"]})
    assert filled == {"translation": "Hello", "confidence": "low"}


async def test_repeats_what_it_is_told_to_say() -> None:
    assert (await Conversation().ask('Say "Hello, Ada!"')).text.startswith("Hello, Ada!")


async def test_remembers_what_was_said_earlier_in_the_conversation() -> None:
    conversation = Conversation({})
    assert (await conversation.ask("My favourite colour is teal.")).text.startswith("Noted")
    assert "My favourite colour is teal." in (await conversation.ask("What is my favourite colour?")).text


async def test_calls_an_application_tool_that_the_question_names() -> None:
    order_status = spec("order_status", "order_id")
    conversation = Conversation(tools=(*SEARCH, order_status))
    answer = await conversation.ask("What is the status of my order A-1042?")
    assert [(call.name, call.arguments) for call in conversation.calls] == [("order_status", {"order_id": "A-1042"})]
    assert answer.text.startswith("result of order_status")


async def test_a_failing_tool_is_told_in_the_answer() -> None:
    answer = await Conversation({}).ask("What does missing.md say about zebras?")
    assert "no such file" in answer.text


async def test_the_deltas_add_up_to_the_message() -> None:
    conversation = Conversation(tools=(*SEARCH, finish(answer=STRING, source=STRING)))
    answer = await conversation.ask("How do I resume a stream?")
    text = "".join(delta.delta for delta in conversation.deltas if delta.type == "text_delta")
    arguments = "".join(delta.delta for delta in conversation.deltas if delta.type == "toolcall_delta")
    assert text == answer.text
    assert json.loads(arguments) == answer.tool_calls[0].arguments
    assert sum(delta.type == "text_delta" for delta in conversation.deltas) > 3
    ends = [delta.content for delta in conversation.deltas if delta.type.endswith("_end")]
    assert ends == list(answer.content)


async def test_the_same_request_gives_the_same_answer_and_costs_nothing() -> None:
    first, second = [await Conversation().ask("How do I upgrade?") for _ in range(2)]
    assert first == second
    assert first.usage.input > first.usage.output > 0
    assert first.usage.cost.total == 0


def test_it_is_a_model() -> None:
    assert isinstance(Librarian(), Model)
    assert Librarian().info.specifier == "demo/librarian"
