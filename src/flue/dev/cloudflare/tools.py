"""What the development server for Cloudflare needs beside Python: Node, Wrangler, and the runtime that it brings."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flue.build.cloudflare.node import Node, find_node, find_package
from flue.errors import ConfigError

BUNDLE_FOLDER = "FLUE_WORKERD_BUNDLE_DIR"
# What Wrangler asks for.
OLDEST_NODE = (22, 12)
_INSTALL = "npm install -D wrangler pyodide@314"
# Nothing is sent, asked or drawn.
_QUIET = {
    "CI": "1",
    "CLOUDFLARE_CF_FETCH_ENABLED": "false",
    "WRANGLER_HIDE_BANNER": "true",
    "WRANGLER_SEND_ERROR_REPORTS": "false",
    "WRANGLER_SEND_METRICS": "false",
}


@dataclass(frozen=True, slots=True)
class Tools:
    """A Node that is new enough, and Wrangler's folder."""

    node: Node
    wrangler: Path

    def command(
        self, configs: Sequence[Path], *, host: str, port: int, state: Path, files: Sequence[Path], containers: bool
    ) -> list[str]:
        """Return how Wrangler serves Workers on this machine, the first of them to requests.

        `state` is the folder of their storage, `files` hold variables, `containers` says whether to run those, too.
        """
        command = [self.node.program, str(self.wrangler / "bin" / "wrangler.js"), "dev"]
        command += [f"--config={config}" for config in configs]
        command += [f"--ip={host}", f"--port={port}", f"--persist-to={state}", "--show-interactive-dev-session=false"]
        command += [] if containers else ["--enable-containers=false"]
        # A file named `.dev.vars` is read like any other.
        return [*command, *(f"--env-file={file}" for file in files)]


def find_tools(root: Path) -> Tools:
    """Return Node and the project's Wrangler. Raises `ConfigError`: `missing_node`, `missing_wrangler`."""
    oldest = ".".join(map(str, OLDEST_NODE))
    node = find_node(root, OLDEST_NODE)
    if node is None:
        other = find_node(root, (0, 0))
        there = f"this machine has {other.version[0]}.{other.version[1]}" if other else "this machine has none"
        raise ConfigError(
            f"Serving a Worker needs Node {oldest} or newer; {there}.",
            code="missing_node",
            hint="Run: npm install -D node@22, or install it from nodejs.org.",
        )
    wrangler = find_package(root, "wrangler")
    if wrangler is None:
        raise ConfigError(
            "Serving a Worker needs Cloudflare's tool Wrangler.", code="missing_wrangler", hint=f"Run: {_INSTALL}"
        )
    return Tools(node, wrangler)


def wrangler_environment(shell: Mapping[str, str], workerd: Path | None) -> dict[str, str]:
    """Return the variables for Wrangler: the shell's, but for the choice of an environment, which is made already.

    `workerd` is the program to run as Cloudflare's runtime in place of the one that Wrangler brings.
    """
    env = {**_QUIET, **shell}
    env.pop("CLOUDFLARE_ENV", None)
    return env if workerd is None else env | {"MINIFLARE_WORKERD_PATH": str(workerd)}


def workerd_with_bundle(tools: Tools, folder: Path, bundles: str) -> Path:
    """Write a program that starts Cloudflare's runtime with a folder of its Python bundles, and return its path.

    Wrangler has no option for that, but runs the program that a variable names.
    """
    command = [tools.node.program, "-p", "require('workerd').default"]
    done = subprocess.run(command, cwd=tools.wrangler, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    workerd = done.stdout.strip()
    if done.returncode or not workerd:
        raise ConfigError(
            "Wrangler is there, but Cloudflare's runtime, the package workerd, is not.",
            code="missing_wrangler",
            hint=f"Run: {_INSTALL}",
        )
    program = folder / "workerd"
    option = f"--pyodide-bundle-disk-cache-dir={Path(bundles).resolve()}"
    text = f'#!/bin/sh\ncommand=$1\nshift\nexec {shlex.quote(workerd)} "$command" {shlex.quote(option)} "$@"\n'
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return program


def docker_runs() -> bool:
    """Say whether there is a Docker engine to run containers with."""
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def bundle_folder(env: Mapping[str, str] = os.environ) -> str | None:
    """Return the folder of Python bundles that the environment names. Raises `ConfigError` when it is none."""
    folder = env.get(BUNDLE_FOLDER)
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"{BUNDLE_FOLDER} is {folder}, which is no folder.", code="no_python_bundle")
    return folder or None
