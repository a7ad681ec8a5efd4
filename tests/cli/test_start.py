"""What `flue start` makes of its options; how it serves is in tests/serve."""

from __future__ import annotations

import pytest

from flue.cli.main import main
from flue.cli.start import workers_of
from flue.errors import ConfigError
from flue.serve import supervisor


@pytest.mark.parametrize(
    ("option", "environment", "count"),
    [
        (None, {}, 1),
        (None, {"WEB_CONCURRENCY": ""}, 1),
        (None, {"WEB_CONCURRENCY": " 3 "}, 3),
        ("2", {"WEB_CONCURRENCY": "3"}, 2),
        ("1", {"FLUE_DATABASE_URL": "memory:"}, 1),
        ("2", {"FLUE_DATABASE_URL": "sqlite:///flue.db"}, 2),
    ],
)
def test_the_option_wins_over_the_environment_and_one_is_the_default(
    option: str | None, environment: dict[str, str], count: int
) -> None:
    assert workers_of(option, environment) == count


@pytest.mark.parametrize("value", ["0", "-1", "129", "two", "1.5", "٢", "9" * 5000])
@pytest.mark.parametrize("name", ["--workers", "WEB_CONCURRENCY"])
def test_a_number_that_is_none_is_refused_with_its_origin(name: str, value: str) -> None:
    option, environment = (value, {}) if name == "--workers" else (None, {name: value})
    with pytest.raises(ConfigError) as caught:
        workers_of(option, environment)
    assert caught.value.code == "invalid_arguments"
    assert str(caught.value).startswith(f"{name} is {value!r}")


def test_several_processes_cannot_share_what_is_in_memory() -> None:
    with pytest.raises(ConfigError) as caught:
        workers_of(None, {"WEB_CONCURRENCY": "2", "FLUE_DATABASE_URL": " memory: "})
    assert caught.value.code == "workers_unavailable"
    assert "WEB_CONCURRENCY asks for 2 processes" in str(caught.value)


def test_a_platform_that_cannot_hand_a_socket_down_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SUPPORTED", False)
    assert workers_of("1", {}) == 1
    with pytest.raises(ConfigError) as caught:
        workers_of("2", {})
    assert caught.value.code == "workers_unavailable"


def test_the_option_between_processes_is_not_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--workers N" in told
    assert "--worker " not in told
    assert main(["start", "--worker", "1,2000"]) == 1
    assert "--worker is for processes that --workers starts" in capsys.readouterr().err
