"""A stand-in for what runs in a container of `@cloudflare/sandbox`: its control server, over this machine's own bash.

It answers the HTTP routes that the Sandbox class calls (0.9.2 and 0.12.10), as far as this project uses them, with the
quirks that clients meet: sessions are one bash each, in which commands wait for one another, `exit` ends the shell, and
output comes line by line; without a session, each command has a process of its own and its output is exact.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NO_SESSION = "__DISABLE_SESSION__"
Json = dict[str, Any]


class Failure(Exception):  # noqa: N818 - an answer, not an error of this module
    """What the control server answers with in place of a result."""

    def __init__(self, code: str, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.body = {"code": code, "message": message, "context": {}, "httpStatus": status, "timestamp": _now()}


class ControlServer:
    """The control server of one container. Its methods block; they may be called from several threads.

    This machine has no `/workspace`: of what lies there, the adapter's own files are kept in `workspace`.
    """

    def __init__(
        self, *, version: str = "0.12.10", env: Mapping[str, str] | None = None, workspace: str | None = None
    ) -> None:
        self.version = version
        self._workspace = workspace
        self.env = dict(env or {})
        self.asked: list[tuple[str, Json]] = []
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._routes: dict[str, Callable[[Json], Json]] = {
            "/api/session/create": self._create_session,
            "/api/execute": self._execute,
            "/api/read": self._read,
            "/api/write": self._write,
            "/api/mkdir": self._mkdir,
            "/api/exists": lambda body: {"path": body["path"], "exists": os.path.exists(body["path"])},  # noqa: PTH110
        }

    def ask(self, path: str, body: Json) -> Json:
        """Answer a request. Raises `Failure`."""
        self.asked.append((path, body))
        body = self._moved(body)
        if path == "/api/version":
            return {"success": True, "version": self.version, "timestamp": _now()}
        if path not in self._routes:
            raise Failure("UNKNOWN_ERROR", f"no such route: {path}", 404)
        return {"success": True, "timestamp": _now(), **self._routes[path](body)}

    def stream(self, body: Json) -> Iterator[Json]:
        """Run a command and yield the events of `/api/execute/stream`."""
        self.asked.append(("/api/execute/stream", body))
        body = self._moved(body)
        command, env = body["command"], self._checked_env(body)
        yield {"type": "start", "command": command, "timestamp": _now()}
        if body.get("sessionId") == NO_SESSION:
            done = self._process(command, env, body.get("cwd"))
            outputs, status = (done.stdout, done.stderr), done.returncode
        else:
            outputs, status = self._session(body).in_background(command, env, body.get("cwd"))
        for kind, output in zip(("stdout", "stderr"), outputs, strict=True):
            for line in output.splitlines():
                yield {"type": kind, "data": f"{line}\n", "timestamp": _now()}
        yield {"type": "complete", "exitCode": status, "timestamp": _now()}

    def read_stream(self, body: Json) -> Iterator[Json]:
        """Yield the events of `/api/read/stream`."""
        content = Path(self._moved(body)["path"]).read_text(encoding="utf-8")
        yield {"type": "metadata", "mimeType": "text/plain", "size": len(content), "isBinary": False}
        for start in range(0, len(content), 60_000):
            yield {"type": "chunk", "data": content[start : start + 60_000]}
        yield {"type": "complete", "bytesRead": len(content)}

    def _moved(self, body: Json) -> Json:
        if self._workspace is None:
            return body
        moved = dict(body)
        for name in {"path", "command"} & body.keys():
            moved[name] = body[name].replace("/workspace/.flue-", f"{self._workspace}/.flue-")
        return moved

    def close(self) -> None:
        """End the sessions."""
        for session in self._sessions.values():
            session.end()

    def _create_session(self, body: Json) -> Json:
        with self._lock:
            if body["id"] in self._sessions:
                raise Failure("SESSION_ALREADY_EXISTS", f"Session '{body['id']}' already exists", 409)
            self._sessions[body["id"]] = _Session({**os.environ, **self.env, **body.get("env", {})}, body.get("cwd"))
        return {"id": body["id"], "message": "Session created"}

    def _session(self, body: Json) -> _Session:
        name = body.get("sessionId") or "default"
        if name not in self._sessions:
            self._create_session({"id": name, "cwd": "/workspace"})
        return self._sessions[name]

    def _execute(self, body: Json) -> Json:
        command, env = body["command"], self._checked_env(body)
        if body.get("sessionId") == NO_SESSION:
            done = self._process(command, env, body.get("cwd"))
            result = {"stdout": done.stdout, "stderr": done.stderr, "exitCode": done.returncode}
        else:
            stdout, stderr, status = self._session(body).in_foreground(command, env, body.get("cwd"))
            result = {"stdout": stdout, "stderr": stderr, "exitCode": status}
        return {"command": command, "duration": 0, **result}

    def _process(self, command: str, env: Mapping[str, str], cwd: str | None) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                ["/bin/bash", "-c", command],
                cwd=cwd or self._workspace or "/workspace",
                env={**os.environ, **self.env, **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            raise Failure("COMMAND_EXECUTION_ERROR", f"Failed to execute command '{command}': {error}") from error
        status = 128 - done.returncode if done.returncode < 0 else done.returncode
        return subprocess.CompletedProcess(
            done.args, status, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def _checked_env(self, body: Json) -> dict[str, str]:
        return dict(body.get("env") or {})

    def _read(self, body: Json) -> Json:
        path = Path(body["path"])
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Failure("FILE_NOT_FOUND", f"File not found: {path}", 404) from None
        except OSError as error:
            raise Failure("FILESYSTEM_ERROR", f"Failed to read file '{path}': {error}") from error
        if body.get("encoding") == "base64":
            return {"path": str(path), "content": base64.b64encode(content).decode(), "encoding": "base64"}
        return {"path": str(path), "content": content.decode(errors="replace"), "encoding": "utf-8"}

    def _write(self, body: Json) -> Json:
        content = body["content"].encode()
        if body.get("encoding") == "base64":
            content = base64.b64decode(content, validate=True)
        try:
            Path(body["path"]).write_bytes(content)
        except OSError as error:
            raise Failure("FILESYSTEM_ERROR", f"Failed to write file '{body['path']}': {error}") from error
        return {"path": body["path"]}

    def _mkdir(self, body: Json) -> Json:
        try:
            Path(body["path"]).mkdir(parents=bool(body.get("recursive")), exist_ok=bool(body.get("recursive")))
        except OSError as error:
            raise Failure("FILESYSTEM_ERROR", f"Failed to create directory: {error}") from error
        return {"path": body["path"], "recursive": bool(body.get("recursive"))}


class _Session:
    """One bash that commands are typed into."""

    def __init__(self, env: Mapping[str, str], cwd: str | None) -> None:
        self._files = Path(tempfile.mkdtemp(prefix="session-"))
        self._one_at_a_time = threading.Lock()
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc"],
            cwd=cwd if cwd and Path(cwd).is_dir() else "/",
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def in_foreground(self, command: str, env: Mapping[str, str], cwd: str | None) -> tuple[str, str, int]:
        """Run a command in the shell itself: what it changes stays."""
        with self._one_at_a_time:
            name = self._type(command, env, cwd, "")
            status = self._status(name)
        stdout, stderr = self._outputs(name)
        # Lines were put together again without the end of the last one.
        return stdout.removesuffix("\n"), stderr.removesuffix("\n"), status

    def in_background(self, command: str, env: Mapping[str, str], cwd: str | None) -> tuple[tuple[str, str], int]:
        """Run a command in a subshell, while others are typed."""
        with self._one_at_a_time:
            name = self._type(command, env, cwd, " &")
        status = self._status(name)
        return self._outputs(name), status

    def end(self) -> None:
        """End the shell and what it started."""
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        if self._shell.stdin:
            self._shell.stdin.close()
        shutil.rmtree(self._files, ignore_errors=True)

    def _type(self, command: str, env: Mapping[str, str], cwd: str | None, ending: str) -> str:
        name = str(self._files / uuid.uuid4().hex)
        # As the original: the lines of a value are indented with the block they stand in.
        exports = "".join(f"    export {key}={_quoted(value)}\n".replace("\n", "\n    ") for key, value in env.items())
        script = (
            f"{{\n{exports}  {command}\n  s=$?; {' '.join(f'unset {key};' for key in env)} }} "
            f"</dev/null >{name}.out 2>{name}.err; echo $s >{name}.tmp; mv {name}.tmp {name}.exit"
        )
        if cwd:
            script = f'PREV=$(pwd); if cd {_quoted(cwd)}; then {{ {script}; }}; cd "$PREV"; fi'
        assert self._shell.stdin
        try:
            self._shell.stdin.write(f"{{ {script}\n}}{ending}\n")
            self._shell.stdin.flush()
        except BrokenPipeError:
            raise Failure("SESSION_TERMINATED", "The session's shell has ended", 410) from None
        return name

    def _status(self, name: str) -> int:
        ended = Path(f"{name}.exit")
        while not ended.exists():
            if self._shell.poll() is not None:
                raise Failure("SESSION_TERMINATED", "The session's shell has ended", 410)
            time.sleep(0.005)
        return int(ended.read_text())

    def _outputs(self, name: str) -> tuple[str, str]:
        found = [Path(f"{name}.{kind}").read_bytes().decode(errors="replace") for kind in ("out", "err")]
        return "".join(f"{line}\n" for line in found[0].splitlines()), "".join(
            f"{line}\n" for line in found[1].splitlines()
        )


def event_bytes(event: Json) -> bytes:
    """Return an event as it stands in the stream."""
    return f"data: {json.dumps(event)}\n\n".encode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
