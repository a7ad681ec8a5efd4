"""The project in Cloudflare's local runtime, as its files are now, or as they were when they last made sense."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flue.build.cloudflare.build import LOCK, write_texts
from flue.build.cloudflare.checking import load_here
from flue.build.cloudflare.plan import CONFIG, SANDBOXES, WORKER, plan_worker
from flue.build.cloudflare.vendor import MODULES
from flue.build.output import earlier
from flue.build.wrangler.file import WRANGLER_FILES
from flue.build.wrangler.record import RECORD
from flue.dev.cloudflare.second import prepare_second
from flue.dev.cloudflare.tools import Tools, bundle_folder, docker_runs, workerd_with_bundle, wrangler_environment
from flue.dev.cloudflare.variables import local_variables, watched
from flue.dev.cloudflare.wrangler import RELOAD_SECONDS, Wrangler
from flue.dev.server import hint_for
from flue.dev.watching import Watched, Watcher
from flue.errors import ConfigError, FlueError
from flue.project.config import Config
from flue.project.data import data_file
from flue.project.layout import find_layout, shown, source_root_of
from flue.serve.logs import say
from flue.serve.source import Environment, Source

ENVIRONMENT = "CLOUDFLARE_ENV"
_STATE = Path(".wrangler", "state")
_BUNDLE = f"{WORKER}/src/flue_bundle.py"
_CONFIGURATION: tuple[str, ...] = (
    *WRANGLER_FILES,
    *("package.json", "pyproject.toml", "flue.toml", "requirements.txt", "uv.lock"),
    *("AGENTS.md", "CLAUDE.md", RECORD),
)


@dataclass(frozen=True, slots=True)
class Made:
    """One state of the project: the files of its Workers, its packages, where its variables come from."""

    texts: Mapping[str, str]
    modules: Path
    lock: str
    variables: tuple[Path, ...]
    contents: str
    containers: bool
    hint: str
    notices: tuple[str, ...]


class Local:
    """Serves a project with Wrangler and keeps it at the newest state of its files that can be built."""

    def __init__(self, source: Source, config: Config, tools: Tools, *, host: str, port: int, debug: bool) -> None:
        self._source = source
        self._config = config
        self._tools = tools
        self._host, self._port, self._debug = host, port, debug
        self._shell = dict(os.environ)
        # Not in `.wrangler`, which Wrangler does not watch.
        self._folder = data_file(config.root).with_name("worker")
        self._wrangler = Wrangler(_tell)
        self._made: Made | None = None
        self._told: set[str] = set()
        self._watcher = Watcher(self._watched)

    @property
    def hint(self) -> str:
        """Return a line that shows how to call the project, empty when there is none."""
        return self._made.hint if self._made else ""

    async def update(self, because: Sequence[Path] = ()) -> bool:
        """Build and serve the project; say so on stderr, or what is wrong. Return whether its newest state is served.

        Raises `ConfigError` (`no_python_bundle`) when nothing can ever be served on this machine.
        """
        began = time.perf_counter()
        try:
            made = await asyncio.to_thread(self._make)
            for notice in made.notices:
                if notice not in self._told:
                    say(f"warning: {notice}")
            self._told.update(made.notices)
            await self._serve(made)
        except Exception as error:
            if isinstance(error, ConfigError) and error.code == "no_python_bundle":
                raise
            if self._debug:
                traceback.print_exception(error)
            self._complain(error)
            return False
        milliseconds = round((time.perf_counter() - began) * 1000)
        files = ", ".join(shown(path, self._config.root) for path in because[:3])
        more = f" and {len(because) - 3} more" if len(because) > 3 else ""
        say(f"Reloaded in {milliseconds} ms: {files}{more}" if because else f"Built in {milliseconds} ms")
        return True

    async def watch(self) -> None:
        """Serve the project anew whenever its files have changed; never returns."""
        async for changed in self._watcher.changes():
            await self.update(changed)

    async def stop(self) -> None:
        """End what serves it."""
        await self._wrangler.stop()

    def _make(self) -> Made:
        root, environment = self._config.root, Environment()
        named = None if self._source.env is None else self._source.cwd / self._source.env
        try:
            env = environment.apply(self._source.read_env(self._config))
            hint, notices = self._checked()
            chosen = env.get(ENVIRONMENT) or None
            plan = plan_worker(
                find_layout(root, target="cloudflare"),
                self._config,
                environment=chosen,
                tell=say,
                without=[self._config.output, *([] if named is None else [named])],
                before=earlier(self._config, LOCK) or _there(self._folder / LOCK),
            )
        finally:
            environment.restore()
        variables = local_variables(root, named=named, environment=chosen)
        sandboxes = plan.merged.sandboxes
        return Made(
            texts=plan.texts(self._folder, selected=True),
            modules=plan.vendored.folder,
            lock=plan.lock.text,
            variables=variables.files,
            contents=hashlib.sha256(b"\0".join(path.read_bytes() for path in variables.files)).hexdigest(),
            containers=sandboxes is not None and bool(sandboxes.document.get("containers")),
            hint=hint,
            notices=(*notices, *plan.notices, *((variables.notice,) if variables.notice else ())),
        )

    def _checked(self) -> tuple[str, tuple[str, ...]]:
        """Load the project on this machine; return how to call it, and notices."""
        project, notices = load_here(self._config)
        if project is None:
            return "", notices
        try:
            return hint_for(project, f"http://localhost:{self._port}"), notices
        finally:
            project.unload()

    async def _serve(self, made: Made) -> None:
        if self._only_code_changed(made):
            await self._reload(made.texts[_BUNDLE])
        else:
            await self._restart(made)
        self._made = made

    def _only_code_changed(self, made: Made) -> bool:
        before = self._made
        if before is None or not self._wrangler.alive:
            return False
        same = (before.modules, before.variables, before.contents) == (made.modules, made.variables, made.contents)
        return same and {**before.texts, _BUNDLE: ""} == {**made.texts, _BUNDLE: ""}

    async def _reload(self, bundle: str) -> None:
        """Write the module that holds the project's files; Wrangler sees it, and goes on with it."""
        file = self._folder / _BUNDLE
        if file.read_text(encoding="utf-8") == bundle:
            return
        after = self._wrangler.readies
        # Beside the folder that Wrangler looks at, so that it never sees a half.
        fresh = self._folder / "bundle.new"
        fresh.write_text(bundle, encoding="utf-8")
        fresh.replace(file)
        await self._wrangler.ready(after, RELOAD_SECONDS)

    async def _restart(self, made: Made) -> None:
        await self._wrangler.stop()
        self._made = None
        worker = self._folder / WORKER
        write_texts(self._folder, dict(made.texts))
        (self._folder / LOCK).write_text(made.lock, encoding="utf-8")
        link = worker / MODULES
        link.unlink(missing_ok=True)
        link.symlink_to(made.modules, target_is_directory=True)
        bundles = bundle_folder(self._shell)
        workerd = workerd_with_bundle(self._tools, self._folder, bundles) if bundles else None
        configs = [self._folder / name / CONFIG for name in (WORKER, SANDBOXES) if f"{name}/{CONFIG}" in made.texts]
        containers = made.containers and await asyncio.to_thread(docker_runs)
        if made.containers and not containers:
            say("warning: Docker does not run here, so container sandboxes do not either")
        if f"{SANDBOXES}/{CONFIG}" in made.texts:
            prepare_second(self._folder / SANDBOXES, made.variables, containers=containers)
        command = self._tools.command(
            configs,
            host=self._host,
            port=self._port,
            state=self._config.root / _STATE,
            files=made.variables,
            containers=containers,
        )
        env = wrangler_environment(self._shell, workerd)
        await self._wrangler.start(command, cwd=self._config.root, env=env)

    def _complain(self, error: Exception) -> None:
        code = error.code if isinstance(error, FlueError) else "load_failed"
        message = error.message if isinstance(error, FlueError) else f"{type(error).__name__}: {error}"
        hint = f" {error.hint}" if isinstance(error, FlueError) and error.hint else ""
        goes_on = " The code before it goes on serving." if self._wrangler.alive else ""
        say(f"error: {message}{hint} [{code}]{goes_on}")

    def _watched(self) -> Watched:
        root, source = self._config.root, self._source
        named = [source.cwd / path for path in (source.env, source.config) if path is not None]
        files = [root / name for name in _CONFIGURATION]
        return Watched(
            folders=[source_root_of(root), root / ".agents" / "skills"],
            files=[*files, *watched(root, None), *named],
            ignored=[self._config.output, root / MODULES],
        )


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what the Worker and Wrangler say
