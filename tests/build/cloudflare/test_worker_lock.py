"""What a Worker carries, resolved by the real pip from a folder of wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from flue.build.cloudflare.worker_lock import install_lock, lock_worker
from flue.errors import ConfigError
from tests.build.cloudflare.wheels import LINUX, write_wheel
from tests.build.conftest import Write


def pins(text: str) -> list[str]:
    return [line.removesuffix(" \\") for line in text.splitlines() if line[0] not in "# "]


FLUES_OWN = [
    "annotated-types==0.8.0",
    "anyio==4.15.0",
    "bashkit==0.20.1",
    "cronsim==2.8",
    "idna==3.20",
    "pydantic-core==2.50.4",
    "pydantic==2.14.3",
    "starlette==1.0.1",
    "workers-runtime-sdk==1.9.5",
]


def test_it_holds_what_flue_needs_there_for_both_platform_tags_and_the_projects_own_dependencies(
    write: Write, index: Path
) -> None:
    write_wheel(index, "slugs", "1.0", requires=["only-there; sys_platform == 'emscripten'", "linux; os_name == 'nt'"])
    write_wheel(index, "only-there", "2.0", requires=["flue-agents>=0.1"])
    asked = """["slugs", "flue-agents[server]", "httpx2; sys_platform == 'linux'"]"""
    root = write({"pyproject.toml": f'[project]\nname = "x"\ndependencies = {asked}\n'})
    lock = lock_worker(root, before=None)
    assert sorted(pins(lock.text)) == sorted([*FLUES_OWN, "only-there==2.0", "slugs==1.0"])
    assert lock.text.count("--hash=sha256:") == lock.packages == 11
    assert lock.notices == ()


@pytest.mark.e2e
def test_an_earlier_lock_is_taken_as_it_is_while_nothing_else_is_asked_for(write: Write, index: Path) -> None:
    root = write({"requirements.txt": "slugs\n", "lock.txt": ""})
    write_wheel(index, "slugs", "1.0")
    first = lock_worker(root, before=None)
    (root / "lock.txt").write_text(first.text)
    write_wheel(index, "slugs", "2.0")
    assert lock_worker(root, before=root / "lock.txt") == first
    write_wheel(index, "more", "1.0")
    write({"requirements.txt": "slugs\n-r more.txt\n", "more.txt": ""})
    assert "more==1.0" not in pins(lock_worker(root, before=root / "lock.txt").text)
    write({"more.txt": "more\n"})
    again = lock_worker(root, before=root / "lock.txt")
    assert {"slugs==1.0", "more==1.0"} <= set(pins(again.text))


@pytest.mark.e2e
def test_versions_of_a_uv_lock_count_and_are_given_up_with_a_notice_where_they_do_not_fit(
    write: Write, index: Path
) -> None:
    write_wheel(index, "slugs", "1.0", python="<3.14")
    write_wheel(index, "slugs", "2.0")
    package = '[[package]]\nname = "slugs"\nversion = "{}"\nsource = {{ registry = "https://index.example" }}\n'
    root = write({"requirements.txt": "slugs\n", "uv.lock": package.format("1.0")})
    kept = lock_worker(root, before=None)
    assert "slugs==1.0" in pins(kept.text)
    assert kept.notices == ("slugs is not made for the Worker's Python 3.14: it asks for <3.14",)
    write_wheel(index, "tools", "1.0")
    write_wheel(index, "tools", "2.0")
    write({"requirements.txt": "slugs\ntools\n"})
    tools = package.replace("slugs", "tools").format("1.0")
    write({"uv.lock": tools + package.format("1.5") + package.replace("slugs", "anyio").format("4.16.0")})
    write_wheel(index, "anyio", "4.16.0", requires=["idna>=2.8"])
    other = lock_worker(root, before=None)
    assert {"slugs==2.0", "tools==1.0", "anyio==4.15.0"} <= set(pins(other.text))
    assert other.notices == ("Not the versions locked before, which do not fit a Worker: anyio, slugs",)


def test_a_dependency_that_no_worker_can_have_is_named_with_who_needs_it(write: Write, index: Path) -> None:
    write_wheel(index, "templates", "1.0", requires=["MarkupSafe>=2"])
    write_wheel(index, "templates", "1.1", requires=["MarkupSafe>=2"])
    write_wheel(index, "markupsafe", "3.0", tag=LINUX)
    with pytest.raises(ConfigError) as caught:
        lock_worker(write({"requirements.txt": "templates\n"}), before=None)
    assert caught.value.code == "no_worker_wheel"
    assert caught.value.message.startswith("MarkupSafe>=2 (for templates) cannot run in a Worker")
    assert "string.Template" in caught.value.hint
    assert "\"templates; sys_platform != 'emscripten'\"" in caught.value.hint


@pytest.mark.e2e
def test_a_dependency_of_the_projects_own_that_no_worker_can_have_is_named(write: Write, index: Path) -> None:
    write_wheel(index, "orjson", "3.0", tag=LINUX)
    with pytest.raises(ConfigError, match=r"^orjson cannot run in a Worker") as caught:
        lock_worker(write({"requirements.txt": "orjson\n"}), before=None)
    assert "Instead of orjson: json of the standard library" in caught.value.hint
    assert "\"orjson; sys_platform != 'emscripten'\"" in caught.value.hint


@pytest.mark.e2e
def test_a_version_that_there_is_not_is_quoted_and_not_called_impossible(write: Write, index: Path) -> None:
    with pytest.raises(ConfigError, match=r"satisfies the requirement pydantic-core==1\.0") as caught:
        lock_worker(write({"requirements.txt": "pydantic==2.14.3\npydantic-core==1.0\n"}), before=None)
    assert caught.value.code == "lock_failed"


# BLD-02
@pytest.mark.e2e
def test_a_package_that_is_not_what_was_locked_is_not_installed(write: Write, index: Path, tmp_path: Path) -> None:
    write_wheel(index, "slugs", "1.0")
    lock = lock_worker(write({"requirements.txt": "slugs\n"}), before=None)
    write_wheel(index, "slugs", "1.0", files={"slugs/__init__.py": b"import something_else\n"})
    with pytest.raises(ConfigError, match="HASHES") as caught:
        install_lock(lock, tmp_path / "modules")
    assert caught.value.code == "lock_failed"
    assert not (tmp_path / "modules" / "slugs").exists()
