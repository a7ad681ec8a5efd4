"""Builds a project for Cloudflare: a folder from which Wrangler deploys.

    dist/
      worker/
        wrangler.json       the user's configuration with what Flue adds
        src/entry.py        the Worker's main module: its classes
        src/flue_bundle.py  the project's files
        python_modules/     packages for the Worker's platform, and Flue
      sandboxes/            the second Worker, where there are JavaScript classes
      requirements.txt      what python_modules holds, with hashes

The same input gives the same bytes. The user's files are never changed; beside them lie `flue.migrations.json`, and
what points Wrangler to the build (`flue.build.cloudflare.deployment`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from flue.build.cloudflare.deployment import check_modules_link, point_wrangler
from flue.build.cloudflare.plan import WORKER, Plan, plan_worker
from flue.build.cloudflare.vendor import MODULES, Size, size_of
from flue.build.output import check_output, earlier, write_output
from flue.build.wrangler.record import RECORD, write_record
from flue.project.config import Config
from flue.project.layout import Layout

LOCK = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Built:
    """What was built, how large the upload is, and what a user should know."""

    plan: Plan
    size: Size
    notices: tuple[str, ...]


def build(
    layout: Layout,
    config: Config,
    *,
    environment: str | None = None,
    without: Collection[Path] = (),
    tell: Callable[[str], None],
) -> Built:
    """Build a project into the output folder, which is replaced when all is there.

    Arguments and errors are those of `plan_worker`; and `ConfigError`: `output_not_ours`.
    """
    check_output(config)
    check_modules_link(config.root)
    before = earlier(config, LOCK)
    plan = plan_worker(
        layout, config, environment=environment, tell=tell, without=[config.output, *without], before=before
    )

    def write(folder: Path) -> None:
        write_texts(folder, plan.texts(config.output))
        (folder / LOCK).write_text(plan.lock.text, encoding="utf-8")
        shutil.copytree(plan.vendored.folder, folder / WORKER / MODULES)

    write_output(config, write)
    notices = list(plan.notices)
    if write_record(config.root, plan.merged.tags):
        notices.append(f"{RECORD} has the order of the migrations now: commit it")
    notices += point_wrangler(config.root, config.output / WORKER)
    size = plan.vendored.size + size_of(config.output / WORKER / "src")
    return Built(plan, size, tuple(notices))


def write_texts(folder: Path, texts: dict[str, str]) -> None:
    """Write files below a folder."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
