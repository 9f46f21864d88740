"""A table that grows: whole rows alone count, whatever a crash has torn."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sightline import SightlineError
from sightline.inference.resumable_csv import Growing

HEAD, ORIGIN = ["filename", "error"], {"weights": ["1"], "pictures": ["in"]}


def begun(target: Path, origin: dict = ORIGIN, overwrite: bool = False) -> Growing:
    table = Growing(target, HEAD)
    table.begin(origin, overwrite)
    return table


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


NAMES = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1, max_size=8) | st.binary(
    min_size=1, max_size=8
).map(lambda name: name.replace(b"\x00", b"_").decode("utf-8", "surrogateescape"))  # as of files: any bytes but NUL
ROWS = st.lists(st.tuples(NAMES, st.text('ab,"\n\r', max_size=6)), max_size=5)


@given(rows=ROWS, torn=st.integers(0, 120))
@example(rows=[("0", 'aa"'), ("1", "a\n")], torn=2)  # within quotes, at the end of a line
@settings(max_examples=60, deadline=None)
def test_cut_anywhere_what_was_whole_is_kept_and_the_rest_comes_again(
    rows: list, torn: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("growing") / "t.csv"
    first = begun(target)
    first.add(rows)
    text = first.part.read_bytes()
    at = max(0, len(text) - torn)
    first.part.write_bytes(text[:at])
    second = begun(target)
    kept = list(second.names())
    assert kept == [name for name, _ in rows[: second.rows]]
    second.add(rows[second.rows :])
    assert second.finish() == target and target.read_bytes() == text
    assert [tuple(row) for row in rows_of(target)[1:]] == rows
    assert list(target.parent.iterdir()) == [target]
    if at == len(text):
        assert second.rows == len(rows)


@pytest.mark.parametrize("torn", [0, 1, 5, 12, 13])
def test_features_and_rows_stay_together(tmp_path: Path, torn: int) -> None:
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    first = begun(tmp_path / "t.csv")
    first.add([[f"{place}.png", ""] for place in range(3)], values[:3])
    content = first.features_part.read_bytes()
    first.features_part.write_bytes(content[: len(content) - torn])
    second = begun(tmp_path / "t.csv")
    assert second.rows == 3 - (torn + 15) // 16
    second.add([[f"{place}.png", ""] for place in range(second.rows, 5)], values[second.rows :])
    second.finish()
    assert (np.load(tmp_path / "t.features.npy") == values).all() and len(rows_of(tmp_path / "t.csv")) == 6


def test_features_that_run_ahead_of_the_rows_are_cut(tmp_path: Path) -> None:
    first = begun(tmp_path / "t.csv")
    first.add([["a.png", ""]], np.ones((1, 3)))
    first.add([["b.png", ""]], np.full((1, 3), 2.0))
    text = first.part.read_bytes()
    first.part.write_bytes(text[:-3])  # killed between the features and the row
    second = begun(tmp_path / "t.csv")
    assert second.rows == 1
    second.add([["b.png", ""]], np.full((1, 3), 5.0))
    second.finish()
    assert np.load(tmp_path / "t.features.npy")[:, 0].tolist() == [1, 5]


def test_one_of_another_origin_is_refused_until_it_may_go(tmp_path: Path) -> None:
    begun(tmp_path / "t.csv").add([["a.png", ""]])
    with pytest.raises(SightlineError, match="unfinished") as caught:
        begun(tmp_path / "t.csv", ORIGIN | {"weights": ["2"]})
    assert "other weights" in str(caught.value) and "--overwrite" in str(caught.value)
    assert begun(tmp_path / "t.csv", ORIGIN | {"weights": ["2"]}, overwrite=True).rows == 0


def test_rows_can_be_read_while_it_grows(tmp_path: Path) -> None:
    table = begun(tmp_path / "t.csv")
    table.add([["a.png", ""]])
    assert rows_of(tmp_path / "t.csv.part") == [HEAD, ["a.png", ""]] and not (tmp_path / "t.csv").exists()
