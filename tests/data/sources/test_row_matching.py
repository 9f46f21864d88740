"""The choice of tables, the matching of rows and images, and errors for ambiguous data."""

from functools import partial
from pathlib import Path

import pytest

import source_toys
from source_toys import FOUR, ROWS, labels_of, open_error, put, written

opened = partial(source_toys.opened, val_fraction=0.5)


def test_file_names_without_extension(tmp_path: Path) -> None:
    put(tmp_path, "images/0001.png", "images/0002.jpg", "images/0003.tar.png", "more/x/0005.PNG")
    text = "image_id,label\n0001,cat\n0002,cat\nimages/0003.tar,dog\nmore/x/0005,dog\n"
    source = opened(written(tmp_path, text))
    assert labels_of(source) == {
        "images/0001.png": "cat",
        "images/0002.jpg": "cat",
        "images/0003.tar.png": "dog",
        "more/x/0005.PNG": "dog",
    }
    put(tmp_path, "images/0002.png", "images/0001.png.png")
    why = open_error(tmp_path / "labels.csv").why
    assert (
        "line 3: '0002' matches several images: 'images/0002.png' and 'images/0002.jpg'" in why and "line 2" not in why
    )
    written(tmp_path, text.replace("0002", "2").replace("0001", "0001.jpg"))
    why = open_error(tmp_path / "labels.csv").why
    assert "'2': there is no such image" in why and "'0001.jpg': there is no such image" in why


def test_images_without_a_row_are_counted_once(tmp_path: Path) -> None:
    put(tmp_path, *FOUR, "8.png", "9.png")
    rows = [f"{row},{split}" for row, split in zip(ROWS.split(), ["train", "val", "train", "val"], strict=True)]
    text = "filename,label,split\n" + "\n".join(rows)
    source = opened(written(tmp_path, text))
    assert [note for note in source.notes if "without a row" in note] == [
        "2 images without a row in labels.csv left out"
    ]
    for name in ("8.png", "9.png"):
        (tmp_path / name).unlink()
    assert not any("without a row" in note for note in opened(tmp_path).notes)
    (tmp_path / "labels.csv").unlink()
    written(tmp_path, "filename,label\n0.png,cat\n2.png,dog\n", "train.csv")
    written(tmp_path, "filename,label\n1.png,cat\n3.png,dog\n", "dev.csv")
    source = opened(tmp_path)
    assert source.splits["val"].names == ("1.png", "3.png") and not any(
        "without a row" in note for note in source.notes
    )
    put(tmp_path, "8.png")
    assert "1 image without a row in train.csv or dev.csv left out" in opened(tmp_path).notes


@pytest.mark.parametrize(
    "header", ["filename,label,confidence,cat,dog,error", "filename,label,truth,confidence,cat,dog"]
)
def test_tables_of_predictions_are_not_used_as_labels(tmp_path: Path, header: str) -> None:
    put(tmp_path, *(f"{label}_{number}.png" for label in ("cat", "dog") for number in range(2)))
    cells = header.count(",") - 1
    written(
        tmp_path, header + "\n" + "".join(f"{p.name},cat{',0.5' * cells}\n" for p in tmp_path.glob("*.png")), "p.csv"
    )
    source = opened(tmp_path)
    assert source.layout == "filename"
    assert any("not used, because it has predictions" in note and "p.csv" in note for note in source.notes)
    for path, layout in ((tmp_path / "p.csv", "auto"), (tmp_path, "csv")):
        error = open_error(path, layout=layout)
        assert "has predictions, not labels" in error.what and "remove the column 'confidence'" in error.cure
    written(tmp_path, "filename,label\ncat_0.png,x\ncat_1.png,x\ndog_0.png,y\ndog_1.png,y\n")
    assert opened(tmp_path).classes == ("x", "y") and any("p.csv" in note for note in opened(tmp_path).notes)


FOLDERS = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


@pytest.mark.parametrize(
    "text",
    [
        "a/1.png,p\na/2.png,q\nb/3.png,p\nb/4.png,q\n",
        "a/1.png,p\nb/3.png,p\nb\\4.png,q\na/2.png,q\n",
        "1.png,a\n2.png,a\n3.png,b\n4.png,b\n",
        "1,p\n2,q\n3,p\n4,q\n",
    ],
    ids=["paths", "backslashes", "labels as the folders", "batches"],
)
def test_a_table_that_covers_all_folders_is_used(tmp_path: Path, text: str) -> None:
    put(tmp_path, *FOLDERS)
    source = opened(written(tmp_path, "filename,label\n" + text))
    assert source.layout == "csv" and set(labels_of(source)) == set(FOLDERS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.png,a\n3.png,b\n", "the 2 folders (such as 'a') contain 4 images, and the table lists 2"),
        ("1.png,p\n3.png,q\n", "contain 4 images, and the table lists 2"),
        ("1.png,a\n2.png,b\n3.png,b\n4.png,b\n", "its label of 'a/2.png' is 'b'"),
    ],
    ids=["in part", "other labels in part", "against the folders"],
)
def test_class_folders_that_contradict_a_table_are_an_error(tmp_path: Path, text: str, why: str) -> None:
    put(tmp_path, *FOLDERS)
    error = open_error(written(tmp_path, "filename,label\n" + text))
    assert "labels may be in a table or in the names of the folders" in error.what and why in error.why
    assert "--data.layout classes" in error.cure and "--data.layout csv" in error.cure and "'a/NAME'" in error.cure
    assert opened(tmp_path, layout="classes").classes == ("a", "b")
    for path, layout in ((tmp_path, "csv"), (tmp_path / "labels.csv", "auto")):
        assert opened(path, hold_out=False, layout=layout).layout == "csv"


def test_a_table_without_header_beside_one_folder_of_images(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{name}" for name in FOUR))
    assert "no column 'filename'" in open_error(written(tmp_path, ROWS)).what
    assert opened(written(tmp_path, "filename,label\n" + ROWS)).layout == "csv"


@pytest.mark.parametrize("tables", [["labels.csv"], ["test.csv"], ["val.csv", "test.csv"]])
def test_tables_for_evaluation(tmp_path: Path, tables: list[str]) -> None:
    put(tmp_path, *FOUR)
    for number, name in enumerate(tables):
        written(tmp_path, f"filename,label\n{number}.png,cat\n{number + 2}.png,cat\n", name)
    source = opened(tmp_path, hold_out=False)
    splits = ["all"] if tables == ["labels.csv"] else [name.removesuffix(".csv") for name in tables]
    assert list(source.splits) == splits and source.classes == ("cat",)
    one = opened(tmp_path / tables[0], hold_out=False)
    assert list(one.splits) == ["all"] and one.notes[-1] == "all 2 images of 1 class"


SPLIT_FOLDERS = ("train/p0/0.png", "train/p0/1.png", "train/p1/2.png", "train/p1/3.png")


def test_a_table_beside_folders_in_splits_that_are_no_labels_is_ambiguous(tmp_path: Path) -> None:
    put(tmp_path, *SPLIT_FOLDERS)
    error = open_error(written(tmp_path, "filename,label\n" + ROWS))
    assert "labels may be in a table or in the names of the folders" in error.what
    assert "none of which, such as 'p0', is named like a label, such as 'cat'" in error.why
    assert "--data.layout csv" in error.cure and opened(tmp_path, layout="splits").classes == ("p0", "p1")
    paths = "".join(f"{name},{'cat' if index < 2 else 'dog'}\n" for index, name in enumerate(SPLIT_FOLDERS))
    written(tmp_path, "filename,label\n" + paths)
    assert opened(tmp_path, layout="csv").classes == ("cat", "dog")
    assert opened(tmp_path, label_column="label").classes == ("cat", "dog"), "the column is named"


@pytest.mark.parametrize("rows", [ROWS.replace("cat", "P0"), "9.png,cat\n8.png,dog\n", "0.png,cat\nbad\n"])
def test_other_tables_beside_class_folders_in_splits_are_noted(tmp_path: Path, rows: str) -> None:
    put(tmp_path, *SPLIT_FOLDERS)
    source = opened(written(tmp_path, "filename,label\n" + rows))
    assert source.classes == ("p0", "p1") and "not used: labels.csv" in source.notes


def test_tables_beside_folders_in_splits_do_not_matter_without_labels_to_train_on(tmp_path: Path) -> None:
    put(tmp_path, *SPLIT_FOLDERS)
    assert opened(written(tmp_path, "filename,label\n" + ROWS), hold_out=False).classes == ("p0", "p1")


def test_one_folder_in_a_split_is_not_a_class_if_a_table_has_the_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/images/{name}" for name in FOUR))
    written(tmp_path, "filename,label\n" + ROWS, "train.csv")
    assert "of the table was found" in open_error(tmp_path).what, "and not: only 1 class was found"
    written(tmp_path, "filename,label\n" + "".join(f"train/images/{row}\n" for row in ROWS.split()), "train.csv")
    assert opened(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("text", ["filename\n4.png\n", "filename,group\n4.png,a\n", "filename,size\n4.png,9\n"])
def test_a_table_of_test_images_without_labels_is_left_out(tmp_path: Path, text: str) -> None:
    put(tmp_path, *FOUR, "4.png")
    written(tmp_path, "filename,label\n" + ROWS, "train.csv")
    source = opened(written(tmp_path, text, "test.csv"))
    assert "test" not in source.splits and "test.csv has no labels and is not used" in source.notes
    assert "no column" in open_error(written(tmp_path, text, "val.csv")).what


@pytest.mark.parametrize("folder", ["", "test/"])
def test_split_folders_beside_a_table_without_splits_are_the_splits(tmp_path: Path, folder: str) -> None:
    names = [f"{split}/{split}{index}.png" for split in ("train", "val", "test") for index in range(2)]
    put(tmp_path, *names)
    rows = [name if folder == name[:5] else name.partition("/")[2] for name in names]
    text = "filename,label\n" + "\n".join(f"{row},{'cat' if index % 2 else 'dog'}" for index, row in enumerate(rows))
    table = written(tmp_path, text)
    for path in (tmp_path, table):
        source = opened(path)
        found = {split: list(items.names) for split, items in source.splits.items()}
        assert found == {split: [name for name in names if name.startswith(split)] for split in found}
        assert [*found] == ["train", "val", "test"]
        assert "the splits are those of the folders train/ and val/ and test/" in source.notes
    put(tmp_path, "more/9.png")
    written(tmp_path, text + "\nmore/9.png,cat")
    error = open_error(tmp_path)
    assert error.what == "1 of 7 images of the table are in no split folder"
    assert "more/9.png" in error.why and "column `split`" in error.cure
    written(tmp_path, "filename,label\ntest0.png,cat\ntest1.png,dog\n")
    assert [*opened(tmp_path, hold_out=False).splits] == ["all"]
