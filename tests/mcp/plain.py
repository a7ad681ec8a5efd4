"""An MCP server over stdio in plain Python: it starts in milliseconds and misbehaves on demand.

`python plain.py [mode]`; modes: `silent` answers nothing, `stubborn` ignores the end of stdin, `noisy` writes lines
that are no messages, `gone` ends at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

MODE = sys.argv[1] if len(sys.argv) > 1 else ""
TOOLS = ("echo", "environment", "pid", "die", "hang")


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    return {"content": [{"type": "text", "text": called(params["name"], params.get("arguments", {}))}]}


def called(name: str, arguments: dict[str, Any]) -> str:
    match name:
        case "environment":
            return json.dumps({**os.environ, "cwd": str(Path.cwd())})
        case "pid":
            return str(os.getpid())
        case "die":
            os._exit(3)
        case "hang":
            time.sleep(3600)
    return str(arguments.get("text"))


def say(line: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def main() -> None:
    say("plain: secret-free last words", sys.stderr)
    if MODE == "gone":
        sys.exit(1)
    for line in sys.stdin:
        message = json.loads(line)
        if MODE == "silent" or "id" not in message:
            continue
        if MODE == "noisy":
            say("Listening …")
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in ("initialize", "tools/list", "tools/call"):
            reply["result"] = answer(message["method"], message.get("params", {}))
        else:
            reply["error"] = {"code": -32601, "message": "Method not found"}
        say(json.dumps(reply))
    while MODE == "stubborn":
        time.sleep(3600)


if __name__ == "__main__":
    main()
