"""Resumed tables: rows after the last flush are dropped, whatever a crash has left."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import SightlineError
from sightline.inference import resumable_csv
from sightline.inference.resumable_csv import ResumableTable

HEAD, ORIGIN = ["filename", "error"], {"weights": ["1"], "images": ["in"]}


def begun(target: Path, origin: dict = ORIGIN, overwrite: bool = False) -> ResumableTable:
    table = ResumableTable(target, HEAD)
    table.begin(origin, overwrite)
    return table


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


NAMES = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1, max_size=8) | st.binary(
    min_size=1, max_size=8
).map(
    lambda name: name.replace(b"\x00", b"_").decode("utf-8", "surrogateescape")
)  # like file names: any bytes except NUL
ROWS = st.lists(st.tuples(NAMES, st.text('ab,"\n\r', max_size=6)), max_size=5)


@given(rows=ROWS, recorded=st.integers(0, 5), cut=st.integers(0, 80), torn=st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_flushed_rows_are_kept_and_others_are_written_again(
    rows: list, recorded: int, cut: int, torn: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("growing") / "t.csv"
    first = begun(target)
    first.add(rows[:recorded])
    first.commit()
    size = first.part.stat().st_size
    first.add(rows[recorded:])
    text = first.part.read_bytes()
    first.part.write_bytes(text[: max(size, len(text) - cut)] + torn)
    second = begun(target)
    assert list(second.saved()) == [(name, error) for name, error in rows[:recorded]] and second.rows == len(
        rows[:recorded]
    )
    second.add(rows[recorded:])
    assert second.finish() == target and target.read_bytes() == text
    assert [tuple(row) for row in rows_of(target)[1:]] == rows
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("torn", [0, 1, 17])
def test_features_and_rows_stay_together(tmp_path: Path, torn: int) -> None:
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    first = begun(tmp_path / "t.csv")
    first.add([[f"{index}.png", ""] for index in range(3)], values[:3])
    first.commit()
    with open(first.features_part, "ab") as file:
        file.write(bytes(torn))
    second = begun(tmp_path / "t.csv")
    assert second.rows == 3
    second.add([[f"{index}.png", ""] for index in range(3, 5)], values[3:])
    second.finish()
    assert (np.load(tmp_path / "t.features.npy") == values).all() and len(rows_of(tmp_path / "t.csv")) == 6
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "t.features.npy"}


def test_rows_without_features_are_nan(tmp_path: Path) -> None:
    table = begun(tmp_path / "t.csv")
    table.add([["a.png", "torn"], ["b.png", "torn"]])
    table.add([["c.png", ""]], np.ones((1, 3), np.float32))
    table.commit()
    table = begun(tmp_path / "t.csv")
    table.add([["d.png", "torn"]])
    table.finish()
    found = np.load(tmp_path / "t.features.npy")
    assert found.shape == (4, 3) and np.isnan(found[[0, 1, 3]]).all() and (found[2] == 1).all()


def test_rows_are_flushed_every_second_and_not_at_each_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(resumable_csv.time, "monotonic", lambda: now[0])
    table = begun(tmp_path / "t.csv")
    for name in ("a.png", "b.png"):
        now[0] += 0.7
        table.add([[name, ""]])
    table.add([["c.png", ""]])
    assert rows_of(tmp_path / "t.csv.part") == [HEAD, ["a.png", ""], ["b.png", ""], ["c.png", ""]]
    assert begun(tmp_path / "t.csv").rows == 2 and not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("lost", ["part", "features_part"])
def test_a_table_that_is_shorter_than_recorded_is_started_again(tmp_path: Path, lost: str) -> None:
    table = begun(tmp_path / "t.csv")
    table.add([["a.png", ""]], np.ones((1, 3)))
    table.commit()
    getattr(table, lost).write_bytes(b"file")
    assert begun(tmp_path / "t.csv").rows == 0 and rows_of(table.part) == [HEAD]


def test_a_table_of_another_origin_is_an_error_without_overwrite(tmp_path: Path) -> None:
    begun(tmp_path / "t.csv").add([["a.png", ""]])
    with pytest.raises(SightlineError, match="unfinished") as caught:
        begun(tmp_path / "t.csv", ORIGIN | {"weights": ["2"]})
    assert "different values of: weights" in str(caught.value) and "--overwrite" in str(caught.value)
    assert begun(tmp_path / "t.csv", ORIGIN | {"weights": ["2"]}, overwrite=True).rows == 0


def test_a_row_that_is_interrupted_while_it_is_written_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = begun(tmp_path / "t.csv")
    table.add([["a.png", ""]])
    append = ResumableTable.append

    def torn(self: ResumableTable, path: Path, content: bytes) -> int:
        append(self, path, content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumableTable, "append", torn)
    with pytest.raises(KeyboardInterrupt):
        table.add([["b.png", ""]])
    table.commit()  # as on Ctrl-C
    assert list(begun(tmp_path / "t.csv").saved()) == [("a.png", "")] and rows_of(table.part) == [HEAD, ["a.png", ""]]


def test_a_new_table_removes_the_earlier_one_and_its_features(tmp_path: Path) -> None:
    """So an interrupted command with --overwrite is resumed without it, and no old features are beside new rows."""
    first = begun(tmp_path / "t.csv")
    first.add([["a.png", ""]], np.ones((1, 3), np.float32))
    first.finish()
    (tmp_path / "t.json").write_text("old")
    table = ResumableTable(tmp_path / "t.csv", HEAD)
    table.begin(ORIGIN, True, [tmp_path / "t.json"])
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv.part", "t.csv.part.json"}
