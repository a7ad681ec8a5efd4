from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flue.build.wrangler.file import has_sandbox_package, read_own_exports, read_wrangler_file
from flue.errors import ConfigError

TOML = """
name = "a"
compatibility_date = 2026-09-08

[[durable_objects.bindings]]
name = "Sandbox"
class_name = "Sandbox"

[env.staging]
vars = { DAY = 2026-01-02, RATE = 0.5 }
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write files below the root: `write({"wrangler.json": "{}"})` returns the root."""

    def write_files(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write_files


Write = Callable[[dict[str, str]], Path]


def test_a_project_without_a_wrangler_file_has_none(write: Write) -> None:
    assert read_wrangler_file(write({"package.json": "{}"})) is None


def test_jsonc_wins_over_json_and_json_over_toml_and_the_others_are_named(write: Write) -> None:
    files = {"wrangler.jsonc": '{"name": "c",} // x', "wrangler.json": '{"name": "j"}', "wrangler.toml": 'name = "t"'}
    root = write(files)
    for name, document, ignored in (("wrangler.jsonc", "c", 2), ("wrangler.json", "j", 1), ("wrangler.toml", "t", 0)):
        found = read_wrangler_file(root)
        assert found
        assert (found.name, found.document, len(found.ignored)) == (name, {"name": document}, ignored)
        (root / name).unlink()


def test_toml_becomes_json_data_and_its_dates_text(write: Write) -> None:
    found = read_wrangler_file(write({"wrangler.toml": TOML}))
    assert found
    assert found.document == {
        "name": "a",
        "compatibility_date": "2026-09-08",
        "durable_objects": {"bindings": [{"name": "Sandbox", "class_name": "Sandbox"}]},
        "env": {"staging": {"vars": {"DAY": "2026-01-02", "RATE": 0.5}}},
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "wrangler.jsonc",
            '{\n  "name": "a"\n  "main": "b"\n}',
            'wrangler.jsonc:3:3: a comma or "}" is expected here.',
        ),
        ("wrangler.json", "[]", "wrangler.json:1: must be an object, in braces."),
        ("wrangler.toml", 'name = "a"\nname = "b"', "wrangler.toml:2: not valid TOML: Cannot overwrite a value."),
        ("wrangler.toml", 'name = "a"\nx y\n', "wrangler.toml:2:3: not valid TOML: "),
        ("wrangler.toml", "[vars]\nX = [1.5, nan]", "wrangler.toml: vars.X[1] is nan"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_with_its_place(
    write: Write, name: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_wrangler_file(write({name: text}))
    assert caught.value.code == "invalid_wrangler"
    assert message in caught.value.message
    assert name in caught.value.message


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wrangler.json").write_bytes('\ufeff{"name": "ä"}'.encode())
    found = read_wrangler_file(tmp_path)
    assert found
    assert found.document == {"name": "ä"}
    (tmp_path / "wrangler.json").write_bytes('{"name": "ä"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"wrangler\.json is not UTF-8"):
        read_wrangler_file(tmp_path)


def test_the_users_own_modules_are_read_and_not_run(write: Write) -> None:
    root = write(
        {
            ".flue/cloudflare.py": "raise SystemExit\nclass Counter: ...",
            ".flue/cloudflare.ts": "export class MySandbox extends Sandbox<Env> {}",
        }
    )
    own = read_own_exports(root / ".flue", root)
    assert (own.python, own.javascript, own.javascript_file) == (
        frozenset({"Counter"}),
        frozenset({"MySandbox"}),
        ".flue/cloudflare.ts",
    )


def test_a_project_without_modules_of_its_own_offers_nothing(tmp_path: Path) -> None:
    own = read_own_exports(tmp_path, tmp_path)
    assert (own.python, own.javascript, own.javascript_file, own.open) == (frozenset(), frozenset(), None, False)


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"cloudflare.py": "x = 1\nclass :"}, "module_syntax", "cloudflare.py:2: SyntaxError: "),
        (
            {"cloudflare.js": "", "cloudflare.ts": ""},
            "invalid_wrangler",
            "cloudflare.js and cloudflare.ts are both there",
        ),
        ({"cloudflare.js": "export * from './x.js'"}, "invalid_wrangler", 'cloudflare.js: "export *" hides'),
    ],
)
def test_a_module_that_cannot_be_understood_is_reported(
    write: Write, files: dict[str, str], code: str, message: str
) -> None:
    root = write(files)
    with pytest.raises(ConfigError) as caught:
        read_own_exports(root, root)
    assert (caught.value.code, caught.value.message.startswith(message)) == (code, True), caught.value


@pytest.mark.parametrize("group", ["dependencies", "devDependencies"])
def test_the_package_may_be_asked_for_in_any_package_json_above(write: Write, group: str) -> None:
    asked = f'{{"{group}": {{"@cloudflare/sandbox": "0.9.2"}}}}'
    root = write({"package.json": asked, "apps/agent/package.json": '{"dependencies": null}', "x/y": ""})
    assert has_sandbox_package(root / "apps" / "agent")
    (root / "package.json").write_text("{}")
    assert not has_sandbox_package(root / "apps" / "agent")


def test_a_broken_package_json_is_reported_with_its_line(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"^package\.json:2:1: not valid JSON") as caught:
        has_sandbox_package(write({"package.json": '{"a": 1,\n}'}))
    assert caught.value.code == "invalid_wrangler"
