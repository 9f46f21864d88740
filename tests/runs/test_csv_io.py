"""Columns of predictions: classes named like a column are renamed, and restored; any name can be written and read."""

import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from sightline.runs.csv_io import RESERVED_COLUMNS, class_columns, classes_of, csv_text

RESERVED = [*sorted(RESERVED_COLUMNS), *(f"class {name}" for name in sorted(RESERVED_COLUMNS))]
names = st.lists(
    st.text(max_size=8) | st.sampled_from(sorted(RESERVED_COLUMNS) + [f"class {name}" for name in RESERVED_COLUMNS]),
    unique=True,
)


@given(names)
def test_class_columns_are_unambiguous_and_read_back(classes: list[str]) -> None:
    columns = class_columns(classes)
    assert not RESERVED_COLUMNS & set(columns)
    assert classes_of(columns) == tuple(classes)


@given(st.lists(st.lists(st.text('a,"\r\n\udcff\u2028', max_size=5), min_size=2, max_size=2)))
@example([["Icon\r", "a"], ["\r\n", '"'], ["a\rb", "\udcff"]])
def test_any_name_is_read_back_from_csv(rows: list[list[str]]) -> None:
    text = csv_text(rows)
    assert list(csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""))) == rows


def test_line_feeds_and_unpaired_surrogates() -> None:
    assert csv_text([["a", 1, 0.5], ["b,c", "", None]]) == b'a,1,0.5\n"b,c",,\n'
    assert csv_text([["\ud800", "a"]]) == b"\\ud800,a\n"
