"""Tables whose images have several labels: the layouts that are recognized, and the tables that are not label sets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import source_toys
from sightline.config.schema import Data
from sightline.data.sources.label_sets import find_separator, split_cell
from sightline.data.sources.open import open_source
from sightline.data.types import Source
from sightline.errors import SightlineError

NAMES = tuple(f"{index}.png" for index in range(6))
SETS = {"0.png": "cat;dog", "1.png": "cat", "2.png": "dog", "3.png": "", "4.png": "bird;cat;dog", "5.png": "bird"}


def table(folder: Path, text: str) -> Path:
    source_toys.put(folder, *NAMES)
    (folder / "labels.csv").write_text(text)
    return folder


def opened(folder: Path, **settings: object) -> Source:
    return open_source(Data(path=str(folder), **({"labels": "auto"} | settings)), 0, hold_out=False)


def sets_of(source: Source) -> dict[str, str]:
    items = source.splits["all"]
    assert items.labels is not None and items.labels.dtype == bool
    names = np.array(source.classes)
    return {name: ";".join(names[row]) for name, row in zip(items.names, items.labels, strict=True)}


def cells(mark: str) -> str:
    return "filename;label\n" + "".join(f'{name};"{text.replace(";", mark)}"\n' for name, text in SETS.items())


@pytest.mark.parametrize("mark", [";", "|", ",", " , ", " ; "])
def test_a_separator_is_found_and_said(tmp_path: Path, mark: str) -> None:
    source = opened(table(tmp_path, cells(mark)))
    assert sets_of(source) == SETS and source.classes == ("bird", "cat", "dog")
    assert any(f"separated by {mark.strip()!r} (found)" in note for note in source.notes)


def test_another_separator_is_given(tmp_path: Path) -> None:
    folder = table(tmp_path, cells(" "))
    assert opened(folder, separator=" ").classes == ("bird", "cat", "dog")
    assert "cat dog" in opened(table(tmp_path, cells(" ").replace('3.png;""', '3.png;"cat"'))).classes


def test_an_unusual_separator_is_an_error_and_a_space_is_said(tmp_path: Path) -> None:
    text = "filename,label\n" + "".join(
        f"{n}.png,{label}\n" for n, label in enumerate(("a/b", "a", "b", "", "b/c", "c"))
    )
    with pytest.raises(SightlineError, match="look like several labels with the separator '/'") as caught:
        opened(table(tmp_path, text), labels="several")
    assert "--data.separator '/'" in caught.value.cure
    assert opened(table(tmp_path, text), labels="several", separator="/").classes == ("a", "b", "c")
    source = opened(table(tmp_path, text.replace("/", " ")), labels="several")
    assert any("several labels: --data.separator ' '" in note for note in source.notes)


def test_lists_of_tags_with_spaces_are_an_error_and_names_with_spaces_are_not(tmp_path: Path) -> None:
    tags = ("sun", "dog sun", "sun dog beach", "beach", "dog", "beach sun")
    text = "filename,label\n" + "".join(f"{n}.png,{label}\n" for n, label in enumerate(tags))
    with pytest.raises(SightlineError, match="look like several labels with the separator ' '") as caught:
        opened(table(tmp_path, text))
    assert "--data.separator ' '" in caught.value.cure and "--data.labels one" in caught.value.cure
    assert opened(table(tmp_path, text), separator=" ").classes == ("beach", "dog", "sun")
    assert len(opened(table(tmp_path, text), labels="one").classes) == 6
    for names in (("golden retriever", "labrador retriever", "poodle") * 2, ("red car", "red bus", "blue car") * 2):
        rows = "".join(f"{n}.png,{label}\n" for n, label in enumerate(names))
        assert opened(table(tmp_path, "filename,label\n" + rows)).classes == tuple(sorted(set(names)))


def test_lists_of_tags_that_are_all_different_are_not_taken_for_ids(tmp_path: Path) -> None:
    names = [f"{a} {b}" if a != b else a for a in "pqrs" for b in "pqrs"]
    source_toys.put(tmp_path, *(f"{n}.png" for n in range(16)))
    (tmp_path / "labels.csv").write_text("file,tags\n" + "".join(f"{n}.png,{t}\n" for n, t in enumerate(names)))
    with pytest.raises(SightlineError, match="the separator ' '"):
        opened(tmp_path)


def test_one_column_for_each_class(tmp_path: Path) -> None:
    rows = "".join(
        f"{name},{','.join(str(int(label in text.split(';'))) for label in ('dog', 'cat', 'bird'))},train\n"
        for name, text in SETS.items()
    )
    source = opened(table(tmp_path, f"image,dog,cat,bird,split\n{rows}"))
    assert source.classes == ("dog", "cat", "bird") and list(source.splits) == ["train"]
    found = source.splits["train"].labels
    assert found is not None
    assert found.tolist() == [[n in t.split(";") for n in source.classes] for t in SETS.values()]


def test_one_row_for_each_label(tmp_path: Path) -> None:
    pairs = [(name, label) for name, text in SETS.items() for label in text.split(";") if label]
    source = opened(table(tmp_path, "filename,label\n" + "".join(f"{name},{label}\n" for name, label in pairs)))
    assert sets_of(source) == {name: text for name, text in SETS.items() if text}


def test_names_that_contain_a_separator_are_not_sets(tmp_path: Path) -> None:
    text = "filename,label\n" + "".join(
        f'{name},"{"tench, Tinca" if i % 2 else "crane, bird"}"\n' for i, name in enumerate(NAMES)
    )
    source = opened(table(tmp_path, text))
    assert source.classes == ("crane, bird", "tench, Tinca")
    assert opened(table(tmp_path, text), labels="several").classes == ("Tinca", "bird", "crane", "tench")
    assert len(opened(table(tmp_path, cells(";").replace('3.png;""', '3.png;"cat"')), labels="one").classes) == 5


def test_a_few_contradicting_rows_are_errors_and_not_sets(tmp_path: Path) -> None:
    source_toys.put(tmp_path, *(f"{index}.png" for index in range(40)))
    rows = "".join(f"{index}.png,{'cat' if index % 2 else 'dog'}\n" for index in range(40))
    (tmp_path / "labels.csv").write_text(f"filename,label\n{rows}1.png,dog\n")
    with pytest.raises(SightlineError) as caught:
        opened(tmp_path)
    assert "lines 3 and 42: '1.png' has the labels 'cat' and 'dog'" in caught.value.why
    assert opened(tmp_path, labels="several").splits["all"].labels[1].all()  # ty: ignore


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        (cells(";"), {"separator": "/"}, ["the separator '/' occurs in no label", "'cat;dog'", "--data.separator ';'"]),
        ("filename,cat,dog\n0.png,1,0\n1.png,1,perhaps\n2.png,0,1\n", {}, ["column 'dog'", "'perhaps'", "line 3"]),
        ("filename,cat,dog\n0.png,1,0\n1.png,1\n", {}, ["line 3: 2 cells instead of 3"]),
        ('filename,label\n0.png,"cat;dog"\n0.png,cat\n9.png,dog\n', {}, ["line 4", "9.png"]),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, settings: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(SightlineError) as caught:
        opened(table(tmp_path, text), **settings)
    message = str(caught.value)
    assert all(part in message for part in parts), message


def test_a_held_out_split_has_every_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source_toys.put(tmp_path, *(f"{index}.png" for index in range(60)))
    rows = (
        ";".join(c for c, p in zip("abcd", (0.8, 0.4, 0.2, 0.1), strict=True) if rng.random() < p) for _ in range(60)
    )
    (tmp_path / "labels.csv").write_text("filename,label\n" + "".join(f"{i}.png,{r}\n" for i, r in enumerate(rows)))
    source = open_source(Data(path=str(tmp_path), labels="auto", val_fraction=0.2), 0)
    train, val = (source.splits[split].labels for split in ("train", "val"))
    assert train is not None and val is not None
    assert train.any(0).all() and val.any(0).all() and 8 <= len(val) <= 16


@given(st.lists(st.text("ab;|, ", max_size=8), min_size=1, max_size=8))
def test_any_cells_have_a_separator_that_some_cell_contains_or_none(texts: list[str]) -> None:
    found = find_separator(texts)
    assert not found or any(found in text for text in texts)
    for text in texts:
        assert all(
            name == name.strip() and name and (not found or found not in name)
            for name in split_cell(text, found or ";")
        )


@pytest.mark.parametrize("cell", ["['cat', 'dog']", '["cat"]', "{cat, dog}", "('cat',)"])
def test_lists_of_python_and_json_are_errors(tmp_path: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    rows = "".join(f'{name},"{quoted if index else ""}"\n' for index, name in enumerate(NAMES))
    with pytest.raises(SightlineError, match="has lists, such as") as caught:
        opened(table(tmp_path, "filename,tags\n" + rows))
    assert "cat;dog" in caught.value.cure
