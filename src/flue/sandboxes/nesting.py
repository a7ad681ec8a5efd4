"""Whether a script nests deeper than a small stack allows, as far as its text shows (SBX-19).

bashkit (0.20.1) bounds how deep bash's own syntax, functions, awk and JSON nest. Other things use the stack as deep as
a script says. Measured in Pyodide 314, whose stack is a Worker's: commands that run commands (`timeout 5 timeout 5 …`)
overflow it some 200 deep, brackets for jq and find some 2,000 deep, operators of a jq program from some 1,000 on.
Nobody writes such scripts by hand; programs do, and whoever means harm.

What only comes about while a script runs is not seen here: an `eval` that calls itself, a program in a file.
"""

from __future__ import annotations

import re

BRACKETS, PREFIXES, OPERATORS = 300, 50, 500
"""How deep brackets may nest; commands that run each other in a row; operators of one program or condition."""

_BRACKET = re.compile(r"[(\[{}\])]")
_UNCLOSED = re.compile(rf"(?:[(\[{{][\s\\]*){{{BRACKETS + 1},}}")
_OPENED_BY = {")": "(", "]": "[", "}": "{"}
_PREFIX = frozenset(
    (
        *("builtin", "busybox", "command", "coproc", "env", "eval", "exec", "flock", "nice", "nohup", "parallel"),
        *("retry", "setsid", "sudo", "time", "timeout", "watch", "xargs"),
    )
)
# What stands between them: options, numbers, variables; and the file of `flock`.
_BETWEEN = re.compile(r"-.*|[\d.]+[smhd]?|\w+=.*", re.DOTALL)
# The first quoted text after the name is the program, or an argument; data has few operators.
_QUERY = re.compile(r"\b(?:jq|yq|tomlq)\b[^'\"\n;&|<]{0,100}('[^']*'|\"[^\"]*\")")
_OPERATOR = re.compile(r"[|+*/%<>=?]|\b(?:def|elif|reduce|then|try)\b")
_CONDITION = frozenset(("!", "-a", "-and", "-not", "-o", "-or"))


def too_deep(script: str) -> str:
    """Return which limit a script exceeds, in words; empty when it exceeds none."""
    found = _deepest(script)
    if found > BRACKETS:
        return f"its brackets nest {found} deep, and {BRACKETS} is the limit here"
    words = script.split()
    found = _longest_row(words)
    if found > PREFIXES:
        return f"{found} commands run each other, and {PREFIXES} is the limit here"
    programs = [len(_OPERATOR.findall(program)) for program in _QUERY.findall(script)]
    found = max([*programs, sum(word in _CONDITION for word in words)])
    if found > OPERATORS:
        return f"one program in it has {found} operators, and {OPERATORS} is the limit here"
    return ""


def _deepest(script: str) -> int:
    """Return how deep brackets nest, in quotes as well.

    Only those count that are closed, as prose and regular expressions have others; or that follow each other at once.
    """
    deepest = max((sum(map(run.count, "([{")) for run in _UNCLOSED.findall(script)), default=0)
    # What is open, and how deep that is which was closed in it. One that opens nothing, as in `case`, closes nothing.
    opened: list[str] = []
    heights = [0]
    there = dict.fromkeys("([{", 0)
    for match in _BRACKET.finditer(script):
        bracket = match[0]
        if bracket in there:
            there[bracket] += 1
            opened.append(bracket)
            heights.append(0)
        elif there[_OPENED_BY[bracket]]:
            height = heights.pop()
            while (closed := opened.pop()) != _OPENED_BY[bracket]:
                there[closed] -= 1
                height = max(height, heights.pop())
            there[closed] -= 1
            heights[-1] = max(heights[-1], height + 1)
            deepest = max(deepest, height + 1)
    return deepest


def _longest_row(words: list[str]) -> int:
    row = longest = 0
    before = ""
    for word in words:
        if word in _PREFIX:
            row += 1
            longest = max(longest, row)
        elif before != "flock" and not _BETWEEN.fullmatch(word):
            row = 0
        before = word
    return longest
