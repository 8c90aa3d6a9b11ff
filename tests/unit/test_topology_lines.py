"""On which line a key stands, whatever the lines around it hold."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from viral_engine.topology.lines import KeyPath, key_lines, line_of

TRICKY = '''\
# [comment] a = 1
a = "# = [b]" # c = 2
"q.r" . s = [
  "x = 1", # ]
  [2, { y = 3 }],
]
text = """
z = 1
[not.a.table] \\"""
"""
raw = \'\'\'
w = 1 \'\'\'
[one."two.three"]
inline = { four = 4 }
  [[many]]
  five = "\\"[" # six = 6
  [many.deep]
  six = 6
[[many]]
  [[many.more]]
  [[many.more]]
  seven = 7
'''


def test_keys_are_found_and_look_alikes_are_not() -> None:
    tomllib.loads(TRICKY)
    assert dict(key_lines(TRICKY)) == {
        ("a",): 2,
        ("q.r",): 3,
        ("q.r", "s"): 3,
        ("text",): 7,
        ("raw",): 11,
        ("one",): 13,
        ("one", "two.three"): 13,
        ("one", "two.three", "inline"): 14,
        ("many",): 15,
        ("many", 0): 15,
        ("many", 0, "five"): 16,
        ("many", 0, "deep"): 17,
        ("many", 0, "deep", "six"): 18,
        ("many", 1): 19,
        ("many", 1, "more"): 20,
        ("many", 1, "more", 0): 20,
        ("many", 1, "more", 1): 21,
        ("many", 1, "more", 1, "seven"): 22,
    }


def test_a_key_in_an_inline_table_stands_on_the_line_of_the_table() -> None:
    lines = key_lines(TRICKY)
    assert line_of(("one", "two.three", "inline", "four"), lines) == 14
    assert line_of(("nowhere",), lines) is None


VALUES = st.sampled_from(
    ["1", '"="', "'['", '["a", "]"]', "[\n1,\n2\n]", '"""\nk0 = 1\n"""', "{ x = 1 }", "'''#\n'''"]
)


@given(st.lists(VALUES, max_size=12), st.lists(st.sampled_from(["", "# [t]"]), min_size=12))
def test_every_key_of_a_table_is_found_where_it_was_written(
    values: list[str], between: list[str]
) -> None:
    text = "[t]\n"
    expected: dict[KeyPath, int] = {("t",): 1}
    for number, (value, gap) in enumerate(zip(values, between, strict=False)):
        text += f"{gap}\n"
        expected["t", f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {value} # end\n"
    tomllib.loads(text)
    assert dict(key_lines(text)) == expected
