"""make demo Q="How do I write a tool?"

The same agent as in workflows/support.py, used from a program of one's own: what happens streams to standard error,
the answer goes to standard output.
"""

import asyncio
import os
import sys

import flue
from choose_model import choose_model
from flue.events import Event, TextDelta, ToolStart, TurnEnd
from support_desk import ask

QUESTION = "How do I resume a stream?"


def show(event: Event) -> None:
    """Print the model's text and its tool calls while they happen."""
    match event:
        case TextDelta(text=text):
            print(text, end="", file=sys.stderr, flush=True)
        case ToolStart(tool_name=name, args=dict(args)) if name not in ("finish", "give_up"):
            detail = " ".join(str(value) for value in args.values())
            print(f"\n  → {name} {detail[:100]}", end="", file=sys.stderr, flush=True)
        case TurnEnd():
            print(file=sys.stderr)


async def main(question: str) -> int:
    model = choose_model(os.environ)
    offline = ", the bundled offline model: it searches and quotes by rules; set an API key or MODEL for a real one"
    print(f"Model: {model}{offline if model.startswith('demo/') else ''}.", file=sys.stderr)
    print(f"Question: {question}\n", file=sys.stderr)
    try:
        async with flue.open_context(on_event=show) as ctx:
            answer = await ask(ctx, question)
    except flue.FlueError as error:
        print(f"\n[{error.code}] {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr, flush=True)
    print(answer.answer)
    if answer.source:
        print(f"\nSource: {answer.source} (confidence: {answer.confidence})\n“{answer.quote}”")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(" ".join(sys.argv[1:]).strip() or QUESTION)))
