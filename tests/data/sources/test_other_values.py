"""Columns of numbers, dates, ids, missing values and joined labels are not read as classes without a word."""

from pathlib import Path

import pytest

from config_toys import configured
from sightline.config.schema import Data
from sightline.data.sources.pairs import open_pairs
from sightline.errors import SightlineError
from sightline.tasks.classify.build import open_labeled
from source_toys import labels_of, open_error, opened, put, written

NAMES = tuple(f"{index}.png" for index in range(24))
ONE = "if each text is a class: --data.labels one"
COLUMNS = {
    "numbers": ([f"{20.1 + index / 10:.1f}" for index in range(24)], "looks like numbers", "--data.labels number"),
    "few numbers": (["20.5", "21.1", "22"] * 8, "looks like numbers", "--data.labels number"),
    "comma": ([f"{20 + index},5" for index in range(24)], "looks like numbers", "written as 20.5, not 20,5"),
    "ages": ([str(20 + index * 7 % 19) for index in range(24)], "looks like numbers", ONE),
    "dates": ([f"2024-05-{index % 9 + 1:02d}" for index in range(24)], "looks like dates", ONE),
    "European dates": ([f"{index % 9 + 1}.5.2024 12:00" for index in range(24)], "looks like dates", ONE),
    "ids": ([f"IMG_{index}" for index in range(24)], "looks like ids", "--data.label_column NAME"),
    "slash": (["cat/dog", "cat", "bird"] * 8, "'cat/dog' look like several labels", "--data.separator '/'"),
    "comma and whole": (["cat,dog", "cat", "bird"] * 8, "'cat,dog' look like several labels", "--data.labels one"),
}


def table(folder: Path, cells: list[str], header: str = "filename\tlabel") -> Path:
    put(folder, *NAMES)
    rows = [f"{name}\t{cell}\n" for name, cell in zip(NAMES, cells, strict=True)]
    return written(folder, f"{header}\n{''.join(rows)}", "labels.tsv")


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_is_not_of_classes_is_an_error_with_the_setting(tmp_path: Path, kind: str) -> None:
    cells, what, cure = COLUMNS[kind]
    folder = table(tmp_path, cells)
    error = open_error(folder)
    assert what in error.what and cure in error.cure and repr(cells[0]) in f"{error.what} {error.why}"
    assert "'label'" in f"{error.what} {error.why}" and error.why.count("'") >= 2
    assert opened(folder, labels="one", hold_out=False).classes == tuple(sorted(set(cells)))


def test_the_setting_for_numbers_reads_them(tmp_path: Path) -> None:
    source = opened(table(tmp_path, COLUMNS["numbers"][0]), labels="number", hold_out=False)
    labels = source.splits["all"].labels
    assert labels is not None and sorted(labels.round(1).tolist())[:2] == pytest.approx([20.1, 20.2])


def test_integer_codes_and_few_different_labels_are_classes(tmp_path: Path) -> None:
    assert opened(table(tmp_path, [str(index % 10) for index in range(24)])).classes == tuple("0123456789")
    assert len(opened(table(tmp_path, [f"{index % 3}.0" for index in range(24)])).classes) == 3
    few = written(tmp_path, "filename,label\n" + "".join(f"{index}.png,class {index}\n" for index in range(4)), "a.csv")
    assert len(opened(few / "a.csv", hold_out=False).classes) == 4
    ids = table(tmp_path, COLUMNS["ids"][0])
    assert len(opened(ids / "labels.tsv", classes=COLUMNS["ids"][0], hold_out=False).classes) == 24


@pytest.mark.parametrize("cells", [["cat;dog", "bird", "bird"] * 8, ["cat|dog", "cat", "dog"] * 8])
def test_joined_labels_are_label_sets_and_not_a_class(tmp_path: Path, cells: list[str]) -> None:
    source = opened(table(tmp_path, cells), hold_out=False)
    assert "cat" in source.classes and len(source.splits["all"].labels.shape) == 2  # ty: ignore
    assert any("label sets in the column 'label'" in note and repr(cells[0]) in note for note in source.notes)


def test_words_that_are_labels_too_are_noted(tmp_path: Path) -> None:
    source = opened(table(tmp_path, ["red blue", "red", "blue green"] * 8))
    note = "'red blue' is one class; if it is several labels: --data.separator ' '"
    assert source.classes == ("blue green", "red", "red blue") and note in source.notes
    assert opened(tmp_path, separator=" ").classes == ("blue", "green", "red")


@pytest.mark.parametrize(("cell", "cure"), [("", "--data.labels several"), ("NaN", "--data.labels one")])
def test_missing_labels_are_one_fault(tmp_path: Path, cell: str, cure: str) -> None:
    folder = table(tmp_path, ["cat", "dog", cell] * 8)
    error = open_error(folder)
    assert error.why.count("\n") == 1 and "line 4" in error.why and "line 10" in error.why
    assert "no label in the column 'label' (8 of 24 rows)" in error.why and cure in error.why
    setting = cure.split()[1]
    assert len(opened(folder, labels=setting, hold_out=False).classes) == 2 + bool(cell)


def test_the_column_of_labels_can_be_named(tmp_path: Path) -> None:
    rows = "".join(f"{name},{index},{'ab'[index % 2]}\n" for index, name in enumerate(NAMES))
    put(tmp_path, *NAMES)
    folder = written(tmp_path, f"filename,label,Kind of animal\n{rows}")
    assert open_error(folder).what.startswith("the column 'label' looks like")
    assert opened(folder, label_column="Kind of animal").classes == ("a", "b")
    assert "no column 'Kinds'" in open_error(folder, label_column="Kinds").what


def test_a_vertical_bar_separates_cells(tmp_path: Path) -> None:
    put(tmp_path, *NAMES[:4])
    folder = written(tmp_path, "filename|label, of the animal|label\n0.png|x|a\n1.png|x|a\n2.png|x|b\n3.png|x|b\n")
    source = opened(folder)
    assert set(labels_of(source).values()) == {"a", "b"}
    assert "labels.csv: the cells are separated by '|'" in source.notes


@pytest.mark.parametrize(("on", "off"), [("1", "0"), ("yes", "no"), ("True", "False")])
def test_a_table_with_a_column_for_each_class(tmp_path: Path, on: str, off: str) -> None:
    single = [f"{on if index % 2 else off}\t{off if index % 2 else on}" for index in range(24)]
    folder = table(tmp_path, single, "filename\tdog\tcat")
    source = opened(folder)
    assert labels_of(source) == {name: "dog" if index % 2 else "cat" for index, name in enumerate(NAMES)}
    assert any("exactly one 1 in each row: every image has one class" in note for note in source.notes)
    assert opened(folder, labels="several").splits["train"].labels.ndim == 2  # ty: ignore
    several = table(tmp_path, [f"{on}\t{on}", *single[1:]], "filename\tdog\tcat")
    assert opened(several).splits["train"].labels.ndim == 2  # ty: ignore
    assert "1 row without exactly one 1, first line 2" in open_error(several, labels="one").why


def test_a_table_without_labels_names_both_forms(tmp_path: Path) -> None:
    error = open_error(table(tmp_path, ["a"] * 24, "filename\tkind"))
    assert "--data.label_column NAME" in error.cure and "column of 0 and 1 (or yes and no)" in error.cure


def test_class_folders_with_splits_in_them(tmp_path: Path) -> None:
    names = [
        f"{kind}/{split}/{index}.png" for kind in ("apple", "pear") for split in ("train", "val") for index in "01"
    ]
    put(tmp_path, *names)
    source = opened(tmp_path)
    assert labels_of(source) == {name: name.split("/")[0] for name in names}
    assert set(labels_of(source, "val")) == {name for name in names if "/val/" in name}
    assert "found 2 class folders with train and val in each" in source.notes


def test_numbers_that_train_lacks_may_be_numbers(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    for split, part in (("train", NAMES[:12]), ("val", NAMES[12:])):
        rows = "".join(f"{name},{(split == 'val') + index % 3}\n" for index, name in enumerate(part))
        written(tmp_path, f"filename,label\n{rows}", f"{split}.csv")
    assert "for a task that predicts numbers: --data.labels number" in open_error(tmp_path).cure


def test_class_folders_are_no_pairs(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/2.png")
    with pytest.raises(SightlineError, match="there are images, but no masks") as caught:
        open_pairs(Data(path=str(tmp_path)), 0)
    assert "if the folders are the classes of the images, train a classifier: photos_finetune" in caught.value.cure


def test_a_classifier_names_images_with_several_labels(tmp_path: Path) -> None:
    folder = table(tmp_path, ["cat;dog", "bird"] * 12)
    with pytest.raises(SightlineError, match="the data have label sets") as caught:
        open_labeled(configured({"task": "classify", "data.path": str(folder)}), print)
    assert "0.png has 'cat;dog'" in caught.value.why and "--data.labels one" in caught.value.cure


def test_a_named_column_is_never_ignored(tmp_path: Path) -> None:
    """Otherwise the folders would be classes, and the images of one folder a class."""
    put(tmp_path, "pictures/1.png", "pictures/2.png", "new/3.png", "new/4.png")
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(1, 5))
    (tmp_path / "tags.csv").write_text("image,tags\n" + rows)
    assert opened(tmp_path, label_column="tags").classes == ("a", "b")
    wrong = open_error(tmp_path, label_column="tag")
    assert "no column 'tag'" in wrong.what and "did you mean 'tags'" in wrong.cure
    assert "no column 'file'" in open_error(tmp_path, file_column="file").what
    (tmp_path / "tags.csv").unlink()
    assert "has no table" in open_error(tmp_path, label_column="tags").why
