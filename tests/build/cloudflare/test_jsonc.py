from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.build.wrangler.jsonc import JsoncError, read_jsonc, write_jsonc

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
SPACES = st.lists(st.sampled_from([" ", "\n", "\t", "\r\n", "// x\n", '/* "{,*/', "/**/"]), max_size=3).map("".join)


@given(VALUES)
def test_what_is_written_reads_as_the_same(value: Any) -> None:
    text = write_jsonc(value)
    assert read_jsonc(text) == value
    assert json.loads(text.encode("utf-8")) == value


@given(VALUES, st.data())
def test_comments_and_trailing_commas_change_nothing(value: Any, data: st.DataObject) -> None:
    def dress(part: Any) -> str:
        space, comma = data.draw(SPACES), data.draw(st.sampled_from(["", ","]))
        if isinstance(part, dict) and part:
            items = [f"{json.dumps(key)}{data.draw(SPACES)}:{dress(item)}" for key, item in part.items()]
            return f"{space}{{{space}{','.join(items)}{comma}{space}}}"
        if isinstance(part, list) and part:
            return f"{space}[{','.join(map(dress, part))}{space}{comma}]{space}"
        return f"{space}{json.dumps(part)}{space}"

    assert read_jsonc(dress(value)) == value


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "a value is missing here"),
        ('{"a": 1\n"b": 2}', 2, 1, 'a comma or "}" is expected here'),
        ("{\n  a: 1\n}", 2, 3, "a key in double quotes is expected here"),
        ('{"a" 1}', 1, 6, 'a colon is missing after "a"'),
        ('{"a":\n}', 2, 1, "a value is missing here"),
        ('{\n"a": [1,\n', 2, 6, 'this "[" is never closed'),
        ('{"a": 1', 1, 1, 'this "{" is never closed'),
        ("[1,\n\n/* x", 3, 1, "this comment is never closed"),
        ('{"a": 1,\n "a": 2}', 2, 2, '"a" stands twice in one object'),
        ('{"a": NaN}', 1, 7, "NaN is not a value"),
        ("[01]", 1, 2, "01 is not a value"),
        ("[1e999]", 1, 2, "1e999 is too large a number"),
        ("[truest]", 1, 2, "truest is not a value"),
        ("[,]", 1, 2, "a value is missing here"),
        ("[1,,]", 1, 4, "a value is missing here"),
        ('["a\nb"]', 1, 4, "invalid control character at"),
        ("{} {}", 1, 4, "nothing may follow the value"),
        ("[" * 200, 1, 102, "this is nested too deeply"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_column(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(JsoncError) as caught:
        read_jsonc(text)
    assert (caught.value.message, caught.value.line, caught.value.column) == (message, line, column)


def test_text_that_looks_like_a_comment_inside_a_string_is_text() -> None:
    assert read_jsonc('{"a": "// no /* no */", "b": "https://x.example/,]"} // yes') == {
        "a": "// no /* no */",
        "b": "https://x.example/,]",
    }
