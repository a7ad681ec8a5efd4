"""A command in a place that is reached through scripts: its exact output, its time, its end.

The command runs in a process group of its own and its output goes to files: what it leaves running in the background
keeps nobody waiting, and a timeout or an abort ends it with all that it started (SBX-17). Time is kept over there,
so that a command ends in time also when whoever asked for it is gone.
"""

from __future__ import annotations

import asyncio
import base64
import shlex
from collections.abc import Mapping

from flue.ports import ExecResult
from flue.sandboxes.remote_shell import LARGE, RemoteShell, answer, encoded, file_error, find_answer, new_token
from flue.sandboxes.results import TIMEOUT_EXIT_CODE, check_environment, text_result, timeout_note

OUTPUT_LIMIT = 8 * 1024 * 1024
"""Bytes of each output stream that are handed over; what is more is cut off."""
ABORT_SECONDS = 5.0
"""How long an abort waits to hear that the command has ended. The order to end it stays on its way after that."""

# $f begins the names of the command's files. What `report` prints: status, whether time was up, sizes, and of both
# outputs what is not large. Those that are stay to be fetched.
_REPORT = f"""report() {{
  o=$(wc -c <"$f.out") e=$(wc -c <"$f.err")
  [ "$o" -le {OUTPUT_LIMIT} ] || truncate -s {OUTPUT_LIMIT} "$f.out"
  [ "$e" -le {OUTPUT_LIMIT} ] || truncate -s {OUTPUT_LIMIT} "$f.err"
  printf 'flue:%s:%s:%s:%s:%s:' "$token" "$1" "$2" $o $e
  [ "$o" -gt {LARGE} ] || base64 -w0 <"$f.out"
  printf :
  [ "$e" -gt {LARGE} ] || base64 -w0 <"$f.err"
  printf ':\\n'
  if [ -e "$f.cancelled" ] || [ "$o" -le {LARGE} -a "$e" -le {LARGE} ]; then rm -f "$f".*; fi
}}"""
# Job control gives the command its process group before anybody can ask for its end. The clock reads from a pipe that
# nobody writes to: a process that sleeps could be ended by the command.
_RUN = """said=$(LC_ALL=C; cd -- "$cwd" 2>&1) || {
  printf 'flue:%s:cwd:%s:\\n' "$token" "$(printf %s "$said" | base64 -w0)"; rm -f "$f".*; exit; }
cd -- "$cwd"
variables=()
if [ -n "$FLUE_VARIABLES" ]; then mapfile -d '' variables < <(printf %s "$FLUE_VARIABLES" | base64 -d)
elif [ -f "$f.env" ]; then mapfile -d '' variables <"$f.env"; rm -f "$f.env"; fi
unset FLUE_VARIABLES
set -m
env -- "${variables[@]}" bash "${what[@]}" <"$input" >"$f.out" 2>"$f.err" &
command=$!
set +m
echo $command >"$f.pid"
[ ! -e "$f.cancelled" ] || kill -KILL -- -$command
if [ -n "$seconds" ]; then
  { read -rt "$seconds" -u 9; [ $? -gt 128 ] || sleep "$seconds"; : >"$f.late"; kill -KILL -- -$command; } \\
    9<> <(:) >/dev/null 2>&1 &
  clock=$!
fi
wait $command
status=$?
[ -z "$clock" ] || kill $clock
late=
[ $status = 137 ] && [ -e "$f.late" ] && late=1
report $status "$late\""""
_ABORT = """: >"$f.cancelled"
if read -r command <"$f.pid"; then kill -KILL -- "-$command"; fi"""
_CLEAN = 'rm -f "$f".*'
# Somebody has killed the script above, perhaps the command itself with all other shells.
_LEFT = """[ -f "$f.out" ] || exit
if read -r command <"$f.pid"; then kill -KILL -- "-$command"; fi
report 137 ''"""

_endings: set[asyncio.Task[str]] = set()


async def run_command(
    shell: RemoteShell,
    command: str,
    *,
    cwd: str,
    env: Mapping[str, str] | None,
    stdin: str | bytes | None,
    timeout: float | None,
) -> ExecResult:
    """Run a command as `Sandbox.exec` says; one that is killed has the status 137.

    Raises `OSError` when `cwd` is missing, `UsageError` for an impossible environment, `SandboxError` when the place
    cannot be reached, whatever has become of the command then.
    """
    variables = "".join(f"{name}={value}\0" for name, value in check_environment(env).items()).encode()
    token = new_token()
    names = f"token={token} f=/tmp/.flue-{token}"
    ending = _CLEAN
    try:
        given = await _given(shell, f"/tmp/.flue-{token}", command, stdin, variables)  # noqa: S108 - over there
        ending = _ABORT
        script = f"{names} cwd={shlex.quote(cwd)} seconds={'' if timeout is None else f'{timeout:.3f}'}\n{given}"
        passed_on = {"FLUE_VARIABLES": encoded(variables)} if 0 < len(variables) <= LARGE else None
        printed = await shell.run(f"{script}\n{_REPORT}\n{_RUN}", env=passed_on, brief=False)
        ending = _CLEAN
        return await _result(shell, printed, names, cwd, timeout)
    except asyncio.CancelledError:
        await _order(shell, f"{names}\n{ending}")
        raise


async def _given(shell: RemoteShell, files: str, command: str, stdin: str | bytes | None, variables: bytes) -> str:
    """Return the lines that give the script its command and its input, having sent ahead what is large."""
    quoted = shlex.quote(command)
    if len(quoted) <= LARGE:
        lines = [f"what=(-c -- {quoted})"]
    else:
        await shell.upload(f"{files}.cmd", command.encode())
        lines = ['what=("$f.cmd")']
    if len(variables) > LARGE:
        await shell.upload(f"{files}.env", variables)
    content = stdin.encode("utf-8", errors="replace") if isinstance(stdin, str) else stdin
    lines.append("input=/dev/null" if content is None else 'input="$f.in"')
    if content is not None and len(content) > LARGE:
        await shell.upload(f"{files}.in", content)
    elif content is not None:
        lines.append(f"printf %s '{encoded(content)}' | base64 -d >\"$f.in\"")
    return "\n".join(lines)


async def _result(shell: RemoteShell, printed: str, names: str, cwd: str, timeout: float | None) -> ExecResult:
    token = names.partition(" ")[0].removeprefix("token=")
    notes = []
    fields = find_answer(printed, token)
    if fields is None:
        fields = answer(shell, await shell.run(f"{names}\n{_REPORT}\n{_LEFT}") or printed, token)
        notes.append("The shell that watched over the command was killed.")
    if fields[0] == "cwd":
        raise file_error(base64.b64decode(fields[1]).decode("utf-8", errors="replace"), cwd)
    status, late, *rest = fields
    outputs = [
        await _output(shell, f"/tmp/.flue-{token}.{name}", int(size), text)  # noqa: S108 - over there
        for name, size, text in zip(("out", "err"), rest[:2], rest[2:], strict=True)
    ]
    if any(int(size) > LARGE for size in rest[:2]):
        await shell.run(f"{names}\n{_CLEAN}")
    if any(int(size) > OUTPUT_LIMIT for size in rest[:2]):
        notes.append(f"Output cut off after {OUTPUT_LIMIT:,} bytes.")
    if late and timeout is not None:
        return text_result(outputs[0], outputs[1], TIMEOUT_EXIT_CODE, *notes, timeout_note(timeout))
    return text_result(outputs[0], outputs[1], int(status), *notes)


async def _output(shell: RemoteShell, path: str, size: int, text: str) -> bytes:
    return base64.b64decode(text) if size <= LARGE else await shell.download(path)


async def _order(shell: RemoteShell, script: str) -> None:
    """Send a script whose answer nobody needs, and wait a while for it."""
    task = asyncio.ensure_future(shell.run(script))
    _endings.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait({task}, timeout=ABORT_SECONDS)


def _forget(task: asyncio.Task[str]) -> None:
    _endings.discard(task)
    if not task.cancelled():
        task.exception()
