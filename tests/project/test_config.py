from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.errors import ConfigError
from flue.project.config import Config, load_config

Write = Callable[..., Path]


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load_config(tmp_path) == Config("server", tmp_path, tmp_path / "dist", None)


def test_flue_toml_is_read_and_its_paths_are_relative_to_it(write: Write) -> None:
    root = write({"flue.toml": 'target = "cloudflare"\nroot = "project"\noutput = "out"\n'})
    expected = Config("cloudflare", root / "project", root / "out", root / "flue.toml")
    assert load_config(root) == expected


def test_the_table_in_pyproject_is_read(write: Write) -> None:
    root = write({"pyproject.toml": '[tool.flue]\ntarget = "cloudflare"\n'})
    assert load_config(root) == Config("cloudflare", root, root / "dist", root / "pyproject.toml")


def test_a_pyproject_without_the_table_is_not_a_configuration(write: Write) -> None:
    root = write({"pyproject.toml": "[tool.other]\nx = 1\n"})
    assert load_config(root).file is None


def test_arguments_win_over_the_file_and_are_relative_to_the_working_directory(write: Write) -> None:
    root = write({"p/flue.toml": 'target = "cloudflare"\noutput = "out"\nroot = "deep"\n'})
    config = load_config(root, root="p", target="server", output="build")
    assert config == Config("server", root / "p", root / "build", root / "p/flue.toml")


def test_the_file_is_not_looked_for_in_parent_directories(write: Write) -> None:
    root = write({"flue.toml": 'target = "cloudflare"\n', "inner/x.txt": ""})
    assert load_config(root / "inner") == Config("server", root / "inner", root / "inner/dist", None)


def test_node_is_the_server_target(write: Write) -> None:
    assert load_config(write({"flue.toml": 'target = "node"\n'})).target == "server"
    assert load_config(Path("/"), target="node").target == "server"


def test_an_unknown_target_names_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, target="x")
    assert caught.value.message == 'Invalid target: "x". Supported targets: server, cloudflare.'
    assert caught.value.code == "invalid_target"


def test_both_files_are_a_conflict_that_an_explicit_path_resolves(write: Write) -> None:
    root = write({"flue.toml": "", "pyproject.toml": '[tool.flue]\ntarget = "cloudflare"\n'})
    with pytest.raises(ConfigError, match=r"flue\.toml and \[tool\.flue\]") as caught:
        load_config(root)
    assert caught.value.code == "config_conflict"
    assert load_config(root, config="pyproject.toml").target == "cloudflare"


def test_everything_wrong_is_listed_in_one_error(write: Write) -> None:
    root = write({"flue.toml": 'target = "x"\nroot = ""\noutput = 3\nport = 1\nname = "n"\n'})
    with pytest.raises(ConfigError, match="Invalid config") as caught:
        load_config(root)
    for part in ("`port`", "`name`", "`root` must", "`output` must", 'invalid target: "x"'):
        assert part in caught.value.message
    assert caught.value.hint == "Known keys: target, root, output, log, keep."


def test_what_is_logged_and_how_long_it_is_kept_is_read(write: Write) -> None:
    table = """
        [{0}log]
        errors = "redacted"
        field_limit = 4096
        [{0}keep]
        runs = "forever"
        prompts = "36h"
        deltas = 90
    """
    expected = LogSettings(errors="redacted", field_limit=4096), KeepFor(runs=None, prompts=129_600.0, deltas=90.0)
    for file, prefix in (("a/flue.toml", ""), ("b/pyproject.toml", "tool.flue.")):
        config = load_config(write({file: table.format(prefix)}).joinpath(file).parent)
        assert (config.log, config.keep) == expected


def test_without_a_word_on_them_logs_and_times_have_their_defaults(write: Write) -> None:
    config = load_config(write({"flue.toml": "[log]\n[keep]\n"}))
    assert (config.log, config.keep) == (LogSettings(), KeepFor())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("log = 1", "`log` must be a table"),
        ("[log]\nlevel = 3", "unknown key `log.level`"),
        ('[log]\nerrors = "some"', '`log.errors` must be "full" or "redacted"'),
        ("[log]\nerrors = []", '`log.errors` must be "full" or "redacted"'),
        ("[log]\nfield_limit = 999", "`log.field_limit` must be a whole number of characters, 1000 at least"),
        ("[log]\nfield_limit = true", "`log.field_limit` must be a whole number of characters, 1000 at least"),
        ("keep = []", "`keep` must be a table"),
        ('[keep]\nevents = "1d"', "unknown key `keep.events`"),
        ('[keep]\nruns = "soon"', '`keep.runs` must be "forever", or a time like "12h" or "30d", of a century at most'),
        ("[keep]\nruns = -1", '`keep.runs` must be "forever"'),
        ("[keep]\nruns = nan", '`keep.runs` must be "forever"'),
        ("[keep]\nruns = inf", '`keep.runs` must be "forever"'),
        ("[keep]\nruns = false", '`keep.runs` must be "forever"'),
        ('[keep]\nruns = "1000000000d"', '`keep.runs` must be "forever"'),
    ],
)
def test_a_mistake_in_log_or_keep_is_named(write: Write, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"flue\.toml") as caught:
        load_config(write({"flue.toml": text}))
    assert complaint in caught.value.message
    assert caught.value.code == "invalid_config"


@pytest.mark.parametrize("text", ["target = \n", "tool = 3\n[tool.flue]\n"])
def test_a_file_that_is_no_toml_is_an_error_with_its_name(write: Write, text: str) -> None:
    root = write({"flue.toml": text})
    with pytest.raises(ConfigError, match=r"flue\.toml is not valid TOML: .*line"):
        load_config(root)


def test_a_tool_entry_that_is_no_table_is_an_error(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"tool\.flue must be a table"):
        load_config(write({"pyproject.toml": "[tool]\nflue = 1\n"}))


def test_a_config_path_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other\.toml does not exist") as caught:
        load_config(tmp_path, config="other.toml")
    assert caught.value.code == "config_not_found"


def test_a_named_pyproject_must_have_the_table(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"no \[tool\.flue\] table"):
        load_config(write({"pyproject.toml": ""}), config="pyproject.toml")


def test_a_named_config_sets_the_root_and_the_place_of_the_environment_file(write: Write) -> None:
    root = write({"conf/flue.toml": 'root = "../project"\n'})
    config = load_config(root, config="conf/flue.toml")
    assert (config.root, config.env_directory) == (root / "project", root / "conf")
