"""What lies outside of the output folder so that Wrangler finds the build from the project's root.

`.wrangler/deploy/config.json` names the configuration to use in place of the user's. Wrangler then still looks for
packages beside the user's, so `python_modules` there is a link into the build.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from flue.build.cloudflare.vendor import MODULES
from flue.errors import ConfigError

REDIRECT = ".wrangler/deploy/config.json"
# What version control should not see; a pattern with a slash at the end would not match the link.
IGNORED = (".wrangler/", MODULES, ".dev.vars*", ".env*", "node_modules/")


def check_modules_link(root: Path) -> None:
    """Raise `ConfigError` (`output_not_ours`) when the root has a Worker's packages that no build of Flue put there."""
    link = root / MODULES
    if link.exists() and not link.is_symlink():
        raise ConfigError(
            f"{MODULES}/ in the project's root holds packages that flue build did not put there.",
            code="output_not_ours",
            hint="Remove it: Flue brings the packages that pyproject.toml or requirements.txt asks for.",
        )


def point_wrangler(root: Path, worker: Path) -> tuple[str, ...]:
    """Have Wrangler in `root` use the build in the folder `worker`; return notices.

    Raises `ConfigError` (`cannot_write`).
    """
    redirect = root / REDIRECT
    config = Path(os.path.relpath(worker / "wrangler.json", redirect.parent)).as_posix()
    try:
        redirect.parent.mkdir(parents=True, exist_ok=True)
        redirect.write_text(json.dumps({"configPath": config}) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{REDIRECT} cannot be written: {error.strerror or error}.", code="cannot_write") from error
    return _link(root / MODULES, worker)


def missing_ignores(root: Path, output: Path) -> tuple[str, ...]:
    """Return the lines that the `.gitignore` of a project under version control lacks; nothing without one."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return ()
    file = root / ".gitignore"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    listed = {line.strip().strip("/").rstrip("*") for line in lines}
    built = f"{output.relative_to(root).as_posix()}/" if output.is_relative_to(root) else ""
    wanted = [line for line in (built, *IGNORED) if line]
    return tuple(line for line in wanted if line.strip("/").rstrip("*") not in listed)


def _link(link: Path, worker: Path) -> tuple[str, ...]:
    target = os.path.relpath(worker / MODULES, link.parent)
    try:
        if link.is_symlink():
            if str(link.readlink()) == target:
                return ()
            link.unlink()
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:  # a file system, or a Windows, without links
        shutil.rmtree(link, ignore_errors=True)
        config = os.path.relpath(worker / "wrangler.json", link.parent)
        reason = error.strerror or error
        return (f"{MODULES} cannot be linked ({reason}): deploy with wrangler deploy -c {config}",)
    return ()
