from __future__ import annotations

from pathlib import Path

from flue.build.sources import find_sources
from tests.build.conftest import Write

KEPT = {
    ".flue/agents/a.py": "",
    ".flue/secrets.py": "",
    ".agents/skills/s/SKILL.md": "",
    "AGENTS.md": "",
    "data/prices.csv": "",
    "flue.toml": "",
}
LEFT_OUT = {
    ".env": "KEY=1",
    ".env.local": "KEY=1",
    ".git/config": "",
    ".flue-data/flue.db": "",
    ".venv/lib/x.py": "",
    "env/pyvenv.cfg": "",
    "env/lib/x.py": "",
    "node_modules/x/x.js": "",
    ".flue/__pycache__/a.pyc": "",
    ".flue/agents/a.py~": "",
    "dist/old.py": "",
}
SECRET = {"data/key.pem": "", "credentials.json": "", "production.env": "", "Secrets.yaml": ""}


def test_the_projects_files_are_found_without_secrets_data_and_what_is_made_anew(write: Write) -> None:
    root = write({**KEPT, **LEFT_OUT, **SECRET})
    found = find_sources(root, without=[root / "dist"])
    assert sorted(found.files) == sorted(KEPT)
    assert sorted(found.secrets) == sorted(SECRET)


def test_links_are_followed_to_files_of_the_project_only(write: Write, tmp_path: Path) -> None:
    root = write({"flue.toml": "x", "data/real.txt": "real"})
    (tmp_path / "outside.txt").write_text("private")
    (root / "inside").symlink_to("data/real.txt")
    (root / "outside").symlink_to(tmp_path / "outside.txt")
    (root / "folder").symlink_to("data")
    (root / "nowhere").symlink_to("gone")
    found = find_sources(root)
    assert sorted(found.files) == ["data/real.txt", "flue.toml", "inside"]
    assert found.links == ["folder", "nowhere", "outside"]


def test_what_must_not_go_in_stays_out_whatever_its_name(write: Write) -> None:
    root = write({"flue.toml": "", "settings.txt": "KEY=1"})
    assert sorted(find_sources(root, without=[root / "settings.txt"]).files) == ["flue.toml"]
