"""The project in development: loaded, and loaded again when its files change."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flue.dev.watching import Watched, Watcher
from flue.errors import ConfigError, FlueError
from flue.project.config import Config
from flue.project.env import EnvFile
from flue.project.layout import shown, source_root_of
from flue.serve.logs import say
from flue.serve.site import Site
from flue.serve.source import Environment, Source
from flue.stores.location import DATABASE_URL


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the newest state of the files is not what answers. `message` begins with file and line where it has them."""

    message: str
    hint: str
    code: str


class Live:
    """Keeps a site at the newest state of the project's files that can be loaded.

    `trouble` is what is wrong with the newest state, None when it is the one that is served; `changes` counts how often
    either changed, and `changed` waits for it.
    """

    def __init__(
        self, site: Site, source: Source, environment: Environment, config: Config, *, debug: bool = False
    ) -> None:
        self.site = site
        self.config = config
        self.trouble: Trouble | None = None
        self.changes = 0
        self._debug = debug
        self._source = source
        self._environment = environment
        self._env_file = EnvFile(None, {})
        self._database = ""
        self._watcher = Watcher(self._watched)
        self._change = asyncio.Event()

    async def changed(self, after: int) -> int:
        """Wait until there have been more changes than `after`; return how many there are."""
        while self.changes <= after:
            await self._change.wait()
        return self.changes

    async def load(self, because: Sequence[Path] = ()) -> bool:
        """Load the project and serve it; say so on stderr, or what is wrong. Return whether it is served."""
        began = time.perf_counter()
        try:
            await self._load()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the version before goes on
            if self._debug:
                traceback.print_exception(error)
            self._note(_trouble(error))
            return False
        milliseconds = round((time.perf_counter() - began) * 1000)
        files = ", ".join(shown(path, self.config.root) for path in because[:3])
        more = f" and {len(because) - 3} more" if len(because) > 3 else ""
        say(f"Reloaded in {milliseconds} ms: {files}{more}" if because else f"Loaded in {milliseconds} ms")
        self._note(None)
        return True

    async def watch(self) -> None:
        """Load the project again whenever its files have changed; never returns."""
        async for changed in self._watcher.changes():
            await self.load(changed)

    async def _load(self) -> None:
        config = self._source.read_config()
        if config.root != self.config.root:
            raise ConfigError(f"The project's root has become {config.root}.", hint="Stop flue dev and start it there.")
        file = self._source.read_env(config)
        env = self._environment.apply(file)
        first = self.site.service is None
        try:
            # In a thread: the version before goes on to answer, and to work, while modules are imported.
            project = await asyncio.to_thread(self._source.load, config)
            await self.site.deploy(project, env)
        except BaseException:
            self._environment.apply(self._env_file)
            raise
        self.config, self._env_file = config, file
        database = env.get(DATABASE_URL, "")
        if database != self._database and not first:
            say(f"{DATABASE_URL} has changed; it counts when flue dev is started again.")
        self._database = database

    def _note(self, trouble: Trouble | None) -> None:
        if trouble is not None and trouble != self.trouble:
            hint = f" {trouble.hint}" if trouble.hint else ""
            goes_on = " The code before it goes on serving." if self.site.version is not None else ""
            say(f"error: {trouble.message}{hint} [{trouble.code}]{goes_on}")
        self.trouble = trouble
        self.changes += 1
        self._change.set()
        self._change = asyncio.Event()

    def _watched(self) -> Watched:
        config = self.config
        root, beside = config.root, config.env_directory
        named = [self._source.cwd / path for path in (self._source.env, self._source.config) if path is not None]
        files = [beside / ".env", beside / "flue.toml", beside / "pyproject.toml", root / "AGENTS.md", *named]
        return Watched(
            folders=[source_root_of(root), root / ".agents" / "skills"],
            files=files,
            ignored=[config.output],
        )


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, FlueError):
        return Trouble(error.message, error.hint, error.code)
    return Trouble(f"{type(error).__name__}: {error}", "", code="load_failed")
