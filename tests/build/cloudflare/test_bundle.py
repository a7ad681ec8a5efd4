from __future__ import annotations

from pathlib import Path

from flue.build.cloudflare.bundle import read_bundle
from flue.project.config import Config
from flue.project.layout import find_layout
from tests.build.conftest import Write

WORKFLOW = "async def run(ctx): return 1\n"


def packed(root: Path, *without: Path) -> list[str]:
    return sorted(read_bundle(find_layout(root), Config("cloudflare", root, root / "dist"), without=without).files)


def test_of_a_source_root_all_is_packed_and_beside_it_what_the_loader_reads(write: Write) -> None:
    root = write(
        {
            "src/workflows/one.py": WORKFLOW,
            "src/articles/a.md": "",
            "AGENTS.md": "",
            ".agents/skills/greet/SKILL.md": "",
            "README.md": "",
            "tests/test_one.py": "",
            "src/.hidden/x": "",
            "src/node_modules/x.js": "",
        }
    )
    assert packed(root) == [".agents/skills/greet/SKILL.md", "AGENTS.md", "src/articles/a.md", "src/workflows/one.py"]


def test_where_the_root_is_the_source_root_tools_files_and_static_files_stay_out(write: Write) -> None:
    root = write(
        {
            "workflows/one.py": WORKFLOW,
            "roles/clerk.md": "",
            "articles/a.md": "",
            "package.json": "{}",
            "wrangler.jsonc": "{}",
            "uv.lock": "",
            "Dockerfile": "",
            "python_modules/pydantic/main.py": "",
            "public/index.html": "",
            "dist/worker/wrangler.json": "{}",
        }
    )
    assert packed(root, root / "dist", root / "public") == ["articles/a.md", "roles/clerk.md", "workflows/one.py"]


def test_links_out_of_the_project_and_secrets_are_told(write: Write) -> None:
    root = write({".flue/workflows/one.py": WORKFLOW, ".flue/id.pem": "secret", "elsewhere.pem": "secret"})
    (root / ".flue" / "all").symlink_to("/")
    bundle = read_bundle(find_layout(root), Config("cloudflare", root, root / "dist"), without=())
    assert (bundle.secrets, bundle.links) == ((".flue/id.pem",), (".flue/all",))
    assert list(bundle.files) == [".flue/workflows/one.py"]
