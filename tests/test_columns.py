"""Columns of the predictions: classes that are named like a column keep a name of their own, both ways."""

from hypothesis import given
from hypothesis import strategies as st

from sightline.columns import TAKEN, class_columns, classes_of

RESERVED = [*sorted(TAKEN), *(f"class {name}" for name in sorted(TAKEN))]
names = st.lists(
    st.text(max_size=8) | st.sampled_from(sorted(TAKEN) + [f"class {name}" for name in TAKEN]), unique=True
)


@given(names)
def test_columns_are_told_apart_and_read_back(classes: list[str]) -> None:
    columns = class_columns(classes)
    assert not TAKEN & set(columns)
    assert classes_of(columns) == tuple(classes)
