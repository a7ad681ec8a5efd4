"""What a JavaScript client gets from our server is what it gets from the original's, in 30 scenes.

The original's own client for this protocol is not on npm any more (what has its name there speaks a later one), so its
server is asked the same, by a client in Node.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import original
from tests.original.likeness import missing, plain
from tests.original.scenes import SCENES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Answers = dict[str, list[Any]]


def play(address: str) -> Answers:
    """Play all scenes against a server."""
    command = [original.node(), str(Path(__file__).with_name("talk.mjs"))]
    script = json.dumps({"base": address, "scenes": SCENES})
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers: Answers = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="session")
def answers(theirs: str, ours: str) -> tuple[Answers, Answers]:
    """Give what the original answers, and what we answer."""
    return play(theirs), play(ours)


@pytest.mark.parametrize("scene", SCENES)
def test_all_that_the_original_answers_is_answered(scene: str, answers: tuple[Answers, Answers]) -> None:
    theirs, ours = answers
    differences = [
        f"answer {place}{difference}"
        for place, (their, our) in enumerate(zip(theirs[scene], ours[scene], strict=True))
        for difference in missing(plain(their), plain(our))
    ]
    assert not differences, "\n".join(differences)


def test_sockets_say_nothing_that_the_original_s_client_refuses(answers: tuple[Answers, Answers]) -> None:
    """That client closes on an agent's frame with a run id, and on an event of another instance."""
    _, ours = answers
    frames = [frame for scene in ours.values() for answer in scene for frame in answer.get("frames", ())]
    assert {frame["version"] for frame in frames} == {1}
    by_agents = [frame for frame in ours["an agent's socket"][0]["frames"] if frame["type"] != "ready"]
    assert not [frame for frame in by_agents if "runId" in frame or "runId" in frame.get("event", {})]
    assert {frame["event"]["instanceId"] for frame in by_agents if frame["type"] == "event"} == {"dan"}
