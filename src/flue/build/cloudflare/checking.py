"""Imports a project on the machine that builds it: most of what is wrong with it is found here, not in a Worker."""

from __future__ import annotations

from flue.errors import ConfigError
from flue.project.config import Config
from flue.project.loader import Project, build_schemas, load_project

# What can be imported in a Worker only.
_ONLY_THERE = {"_pyodide", "asgi", "js", "pyodide", "pyodide_js", "workers"}


def load_here(config: Config) -> tuple[Project | None, tuple[str, ...]]:
    """Return the loaded project, to be unloaded by the caller; None, with a notice, where only a Worker can load it.

    Raises `ConfigError` for everything else that is wrong.
    """
    try:
        project = load_project(config=config)
    except ConfigError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] in _ONLY_THERE:
            return None, (f"{error.message} Only a Worker has that, so the modules were not checked.",)
        raise
    try:
        build_schemas(project)
    except BaseException:
        project.unload()
        raise
    return project, ()
