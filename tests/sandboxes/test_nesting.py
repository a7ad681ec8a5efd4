"""How deep a script nests, by its text."""

from __future__ import annotations

import json
import time

import pytest

from flue.sandboxes.nesting import BRACKETS, OPERATORS, PREFIXES, too_deep
from tests.sandboxes.hostile.corpus import corpus
from tests.sandboxes.synchronous import open_synchronous_env

DEEP = {
    *("nested-env", "nested-timeout", "nested-xargs", "nested-builtin", "nested-time", "find-expression"),
    *("jq-deep-filter", "jq-deep-filter-50000", "jq-deep-pipes"),
}
NOT_SEEN = {"eval-bomb", "long-pipeline", "long-and-list", "loop-forever", "wide-characters"}
PROSE = "It took some time to watch the command run: time after time, sudo make me a sandwich. " * 200
NESTED = json.dumps({"a": [[{"b": list(range(500))}] * 50]})
ORDINARY = {
    "a table of values": "cat > t.csv <<END\n" + "1,2;(3)|4&!\n" * 5_000 + "END",
    "prose with what looks like brackets": "cat > said.txt <<END\n" + "I am sad :( [sic\n" * 2_000 + "END",
    "regular expressions": "cat > re.js <<END\n" + "if (/[(]/.test(x)) { y = /\\{/ }\n" * 1_000 + "END",
    "prose": f"cat > story.txt <<END\n{PROSE}\nEND",
    "a case with many patterns": "case $x in\n" + "  a) echo a ;;\n" * 1_000 + "esac",
    "nested data": f"echo '{NESTED}' > data.json; jq '.a[0] | length' data.json",
    "a long pipeline": "cat f" + " | sort | uniq" * 100,
    "conditions": "\n".join("[ -f a -a ! -f b ] && env -i A=1 timeout 5 nice -n 5 true || exit 1" for _ in range(80)),
    "data for a query": f"jq . <<< '{json.dumps([{'n': n, 'x': 'a=b?'} for n in range(600)])}'",
    "data as an argument": f"jq -n --argjson d '{json.dumps(list(range(2_000)))}' '$d | add'",
    "a query": "jq -r '.items[] | select(.a >= 1 and .b != null) | [.id, (.name // \"none\"), .c + 1] | @tsv' f.json",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_people_and_models_write_passes(name: str) -> None:
    """However long it is."""
    assert too_deep(ORDINARY[name]) == ""


# SBX-19
def test_of_the_hostile_scripts_those_that_nest_too_deep_are_told_from_their_text() -> None:
    """Others nest as well, and bashkit stops them; or do so only when they run."""
    found = {one.name for one in corpus() if one.name in DEEP | NOT_SEEN and too_deep(one.script)}
    assert found == DEEP


@pytest.mark.parametrize(
    ("left", "right", "limit"),
    [
        ("[", "]", BRACKETS),
        ("env -i A=1 ", "true", PREFIXES),
        ("flock f ", "true", PREFIXES),
        ("timeout 5s xargs -n 1 ", "echo", PREFIXES // 2),
    ],
)
def test_what_nests_up_to_the_limit_passes_and_one_more_does_not(left: str, right: str, limit: int) -> None:
    """The message says how deep, and how deep it may be."""
    end = right * limit if right == "]" else right
    assert too_deep(left * limit + end) == ""
    assert "is the limit here" in too_deep(left * (limit + 1) + end)


def test_what_is_opened_at_once_counts_even_if_nothing_closes_it() -> None:
    """A parser goes as deep before it sees that."""
    assert "its brackets nest 5000 deep" in too_deep("jq -n '" + "[" * 5000 + "'")
    assert "its brackets nest 5000 deep" in too_deep("find . " + "\\( " * 5000)


@pytest.mark.parametrize("operator", ["|.", "+1", "?//1", " elif 1 then 2"])
def test_a_query_has_a_number_of_operators_at_most(operator: str) -> None:
    """Each may be a level of the stack."""
    assert too_deep(f"jq '1{operator * (OPERATORS // 4)}' f") == ""
    assert "operators" in too_deep(f'jq -n "1{operator * (OPERATORS + 1)}"')


def test_looking_takes_time_in_proportion_to_the_text() -> None:
    """Whatever it is."""
    began = time.process_time()
    for text in (
        "(" * 20_000,
        "([)" * 20_000,
        "(a" * 20_000 + ")" * 20_000,
        "env " * 20_000,
        "jq '" * 20_000,
        "jq " * 20_000,
        "a" * 20_000,
        "-o " * 20_000,
    ):
        too_deep(text)
    assert time.process_time() - began < 2


# SBX-19
async def test_a_script_that_nests_too_deep_is_not_begun_and_the_model_reads_why() -> None:
    """So it can write another one."""
    env = await open_synchronous_env()
    result = await env.exec(f"touch begun; jq -n '{'[' * 5000}{']' * 5000}'")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The command was stopped: its brackets nest 5000 deep, and 300 is the limit here." in result.stderr
    assert "Nothing of it was run." in result.stderr
    assert not await env.exists("begun")
