"""What `make e2e-setup` installs for the tests of the Cloudflare target, and how they are told to be quiet."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.prerequisites import require

ROOT = Path(__file__).resolve().parents[3]
WRANGLER = ROOT / "build" / "wrangler"
PYODIDE = ROOT / "build" / "pyodide"
QUIET = {
    "CI": "1",
    "CLOUDFLARE_CF_FETCH_ENABLED": "false",
    "WRANGLER_HIDE_BANNER": "true",
    "WRANGLER_SEND_ERROR_REPORTS": "false",
    "WRANGLER_SEND_METRICS": "false",
}


def node_for_wrangler() -> str:
    """Return a Node that Wrangler runs on: 22 or newer, the installed one where the machine's is older."""
    require((WRANGLER / "installed").is_file(), "Wrangler is not installed; run: make e2e-setup")
    bundled = [*WRANGLER.glob("node_modules/node-linux-*/bin/node")]
    found = str(bundled[0]) if bundled else shutil.which("node") or ""
    require(bool(found), "node is not on the path")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    require(int(version.strip("v").split(".")[0]) >= 22, f"Wrangler needs Node 22 or newer, this is {version.strip()}")
    return found


def dry_run(root: Path, home: Path, *arguments: str) -> str:
    """Run `wrangler deploy --dry-run` in a project's root and return what it prints; it may not warn of anything."""
    wrangler = str(WRANGLER / "node_modules/wrangler/wrangler-dist/cli.js")
    command = [node_for_wrangler(), wrangler, "deploy", "--dry-run", "--containers-rollout=none", *arguments]
    env = QUIET | {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return done.stdout


def link_npm_packages(root: Path) -> None:
    """Put what a user would install with npm into a project: Wrangler, @cloudflare/sandbox and Pyodide."""
    require((PYODIDE / "installed").is_file(), "Pyodide is not installed; run: make e2e-setup")
    folder = root / "node_modules"
    folder.mkdir()
    for package in WRANGLER.glob("node_modules/[!.]*"):
        (folder / package.name).symlink_to(package)
    (folder / "pyodide").symlink_to(PYODIDE / "node_modules" / "pyodide")
