"""One measurement in a process of its own: `python -m benchmarks.worker TASK`, both task and samples being JSON."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.scenarios import Samples, Task, run


def measure(task: Task) -> Samples | dict[str, str]:
    """Return the samples, or `{"missing": reason}` when the contender is not installed."""
    try:
        contender = importlib.import_module(f"benchmarks.contenders.{task.contender}")
    except ImportError as error:
        return {"missing": str(error)}
    return run(task, contender.conversations)


if __name__ == "__main__":
    print(json.dumps(measure(Task(**json.loads(sys.argv[1])))))
