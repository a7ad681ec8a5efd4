"""Where things lie inside a virtual sandbox. Imports nothing: workers that hold one sandbox must start fast."""

WORKSPACE = "/workspace"
HOME = "/home/user"
KEPT = (WORKSPACE, HOME, "/tmp")  # noqa: S108 - a directory inside the sandbox, not the host's
"""Where files last from one command to the next. Everything else is new for every command."""


def kept_in(path: str) -> str | None:
    """Return the directory that lasts in which an absolute path lies, None when it lies elsewhere."""
    return next((kept for kept in KEPT if path == kept or path.startswith(f"{kept}/")), None)
