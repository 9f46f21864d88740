"""Labels in CSV files are read strictly, without coercion; every fault is reported with its line."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import source_toys
from sightline.config.schema import Data
from sightline.data.sources.row_matching import table_hint
from sightline.data.sources.tables import read_table
from sightline.errors import SightlineError
from source_toys import FOUR, ROWS, labels_of, open_error, put, written

opened = partial(source_toys.opened, val_fraction=0.5)
MEANING = dict(zip(FOUR, ["cat", "cat", "dog", "dog"], strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\n" + ROWS,
        "\ufefffilename,label\r\n" + ROWS.replace("\n", "\r\n"),
        "label;id;File Name\ncat;9;0.png\ncat;8;1.png\n\ndog;7;2.png\ndog;6;3.png",
        "image\tclass\n" + ROWS.replace(",", "\t"),
        "id,filename,label,class_name\n"
        + "".join(f"{i},{i}.png,{7 + i // 2},{'cd'[i // 2]}{'ao'[i // 2]}{'tg'[i // 2]}\n" for i in range(4)),
        "filename,label\n" + ROWS.replace(",", " , ") + ROWS.splitlines()[0] + "\n",
    ],
    ids=["plain", "bom", "semicolon", "tab", "ids with names", "spaces and a repeated row"],
)
def test_all_csv_dialects_are_read(tmp_path: Path, text: str) -> None:
    put(tmp_path, *FOUR)
    source = opened(written(tmp_path, text))
    assert source.layout == "csv" and labels_of(source) == MEANING and source.classes == ("cat", "dog")
    assert labels_of(opened(tmp_path / "labels.csv")) == MEANING
    assert ("1 repeated row of labels.csv left out" in source.notes) == (" , " in text)


def test_images_in_folders(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{name}" for name in FOUR))
    assert set(labels_of(opened(written(tmp_path, "filename,label\n" + ROWS)))) == {f"train/{name}" for name in FOUR}
    nested = "filename,label\n" + ROWS.replace("0.png", "train/0.png").replace("1.png", "train\\1.png")
    assert set(labels_of(opened(written(tmp_path, nested)))) == {f"train/{name}" for name in FOUR}
    absolute = "filename,label\n" + "".join(f"{tmp_path}/train/{row}\n" for row in ROWS.splitlines())
    source = opened(written(tmp_path, absolute))
    assert len(labels_of(source)) == 4 and source.splits["train"].read(0).size == (4, 4)


def test_two_tables_with_equal_names_in_their_own_folders(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/{name}" for split in ("train", "val") for name in FOUR))
    written(tmp_path, "id,filename,label\n0,0.png,cat\n1,2.png,dog\n", "train.csv")
    written(tmp_path, "id,filename,label\n0,2.png,dog\n1,3.png,dog\n", "val.csv")
    source = opened(tmp_path)
    assert source.splits["train"].names == ("train/0.png", "train/2.png")
    assert source.splits["val"].names == ("val/2.png", "val/3.png") and source.splits["val"].labels.tolist() == [1, 1]
    assert "4 images without a row in train.csv or val.csv left out" in source.notes
    written(tmp_path, "filename,label\n" + ROWS, "train.csv")
    assert all(name.startswith("train/") for name in labels_of(opened(tmp_path / "train.csv")))


def test_rows_of_train_do_not_match_images_of_val(tmp_path: Path) -> None:
    put(tmp_path, "train/0.png", "train/2.png", "val/1.png", "val/3.png")
    written(tmp_path, "filename,label\n" + ROWS, "train.csv")
    written(tmp_path, "filename,label\n1.png,cat\n3.png,dog\n", "val.csv")
    assert "rows name an image that does not exist" in open_error(tmp_path).what
    assert "line 3: '1.png': there is no such image" in open_error(tmp_path).why


def test_a_split_column_without_a_known_split_is_reported_as_unused(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    rows = [f"{row},fold{number}" for number, row in enumerate(ROWS.split())]
    (tmp_path / "labels.csv").write_text("filename,label,split\n" + "\n".join(rows))
    source = opened(tmp_path)
    note = "the split column of labels.csv is not used, because it has none of train, val and test: 'fold0', 'fold1'"
    assert any(text.startswith(note) for text in source.notes)


def test_a_split_column_defines_the_splits(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    splits = ["train", "val", "train", "test"]
    rows = [f"{row},{split}" for row, split in zip(ROWS.split(), splits, strict=True)]
    source = opened(written(tmp_path, "filename,label,split\n" + "\n".join(rows)))
    assert {split: items.names for split, items in source.splits.items()} == {
        "train": ("0.png", "2.png"),
        "val": ("1.png",),
        "test": ("3.png",),
    }
    text = "filename,label,split\n" + "\n".join(rows)
    assert "line 5: 'extra'" in open_error(written(tmp_path, text.replace("test", "extra"))).why
    dev = opened(written(tmp_path, text.replace("val", "Dev")))
    assert dev.splits["val"].names == ("1.png",)
    assert "'holdout', 'val'" in open_error(written(tmp_path, text.replace("test", "holdout"))).what


def test_labels_are_strings(tmp_path: Path) -> None:
    put(tmp_path, *FOUR, *(f"b{name}" for name in FOUR))
    text = "filename,label\n" + "".join(
        f"{b}{i}.png,{label}\n" for b in ("", "b") for i, label in enumerate(["1", "01", "10", "2"])
    )
    assert opened(written(tmp_path, text)).classes == ("01", "1", "2", "10")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncow\n")
    written(tmp_path, "filename,label\n" + ROWS.replace("cat", "2").replace("dog", "bee"))
    assert labels_of(opened(tmp_path)) == {"0.png": "cow", "1.png": "cow", "2.png": "bee", "3.png": "bee"}


def test_missing_images_are_listed_with_their_lines(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    error = open_error(written(tmp_path, "filename,label\nx.png,cat\n" + ROWS + "y.png,dog\n../labels.csv,dog\n"))
    for line in ("line 2: 'x.png'", "line 7: 'y.png'", "line 8: '../labels.csv'"):
        assert line in error.why
    assert "3 of 7 rows" in error.what


def test_a_table_away_from_its_images_is_one_error(tmp_path: Path) -> None:
    put(tmp_path / "pictures", *FOUR)
    (tmp_path / "tables").mkdir()
    error = open_error(written(tmp_path / "tables", "filename,label\n" + ROWS))
    assert error.what == "none of the 4 images of the table was found" and error.why.count(".png") == 3
    assert "into the one above" in error.cure
    assert set(labels_of(opened(written(tmp_path, "filename,label\n" + ROWS) / "labels.csv"))) == {
        f"pictures/{name}" for name in FOUR
    }


def test_the_column_of_file_names_is_set(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    written(tmp_path, "original,scan no,label\n" + "".join(f"x,{row}\n" for row in ROWS.split()))
    assert "--data.file_column NAME" in open_error(tmp_path).cure
    assert labels_of(opened(tmp_path, file_column="Scan_No")) == MEANING
    error = open_error(tmp_path, file_column="scans")
    assert "no column 'scans'" in error.what


def test_the_table_above_a_folder_of_images_is_found(tmp_path: Path) -> None:
    put(tmp_path / "my photos", *FOUR)
    written(tmp_path, "filename,label\n" + ROWS, "tags.csv")
    written(tmp_path, "name,age\nx,3\n", "other.csv")
    folder = str(tmp_path / "my photos")
    assert table_hint(folder, Data()) == f"use the table of labels above this folder: --data {tmp_path}/tags.csv; or "
    written(tmp_path, "filename,label\n" + ROWS, "more.csv")
    assert table_hint(folder, Data()) == "" == table_hint("sklearn:digits", Data()), "two tables: no guess"


def test_contradicting_and_ambiguous_rows_are_errors(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    assert (
        "lines 2 and 6: './0.png' has the labels 'cat' and 'dog'"
        in open_error(written(tmp_path, "filename,label\n" + ROWS + "./0.png,dog\n")).why
    )
    ids = "filename,label,class\n0.png,1,cat\n1.png,1,cow\n2.png,2,dog\n3.png,2,dog\n"
    assert "lines 2 and 3: '1' goes with 'cat' and 'cow'" in open_error(written(tmp_path, ids)).why
    (tmp_path / "labels.csv").unlink()
    put(tmp_path, "a/9.png", "b/9.png")
    assert "matches several images" in open_error(written(tmp_path, "filename,label\n" + ROWS + "9.png,dog\n")).why


def test_one_image_in_two_splits(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    written(tmp_path, "filename,label\n" + ROWS, "train.csv")
    written(tmp_path, "filename,label\n3.png,dog\n", "val.csv")
    assert "lines 5 and 2: '3.png' has the splits 'train' and 'val'" in open_error(tmp_path).why


FAULTS = {
    "filname,label\n0.png,cat\n": ("no column 'filename'", "did you mean 'filname'?"),
    "filename,lable\n0.png,cat\n": ("no column 'label'", "'filename', 'lable'"),
    "0.png,cat\n1.png,dog\n": (
        "no column 'filename'",
        "it has '0.png', 'cat'",
        "first line filename,label; or --data.file_column NAME\n",
    ),
    "cat;0.png\ndog;1.png\n": ("no column 'filename'", "it has 'cat', '0.png'"),
    "id,label\n0,cat\n": ("no column 'filename'", "exactly one column 'filename'"),
    "filename,label\n0.png,cat\n1.png,dog,x\n": ("line 3: 3 cells instead of 2", "double quotes"),
    "filename,label\n0.png,\n": ("line 2: no label", ""),
    "filename,label,label\n0.png,a,b\n": ("two columns 'label'", "line 1"),
    "filename,label\n": ("no rows", ""),
    "": ("no rows", "first line `filename,label`"),
    'filename,label\n0.png,"cat\n1.png,dog\n': ("line 2", "double quote"),
    "filename,label\n0.png,cat\n1.png," + "x" * 140_000 + "\n": ("line 3", "field larger than field limit"),
}


@pytest.mark.parametrize("text", FAULTS, ids=range(len(FAULTS)))
def test_errors_have_the_line_number(tmp_path: Path, text: str) -> None:
    put(tmp_path, *FOUR)
    message = str(open_error(written(tmp_path, text))) + "\n"
    assert all(part in message for part in FAULTS[text]) and "labels.csv" in message


def test_text_that_is_not_utf8_is_an_error_with_the_line_number(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    error = open_error(written(tmp_path, ("filename,label\n0.png,cat\n1.png,caf\u00e9\n").encode("latin-1")))
    assert "line 3" in error.where and "0xe9" in error.why and "UTF-8" in error.cure


def test_line_numbers_after_a_cell_of_several_lines(tmp_path: Path) -> None:
    path = written(tmp_path, 'filename,label,note\na.png,x,"one\ntwo"\nb.png,y,\n') / "labels.csv"
    assert [row.line for row in read_table(str(path), Data()).rows] == [2, 4]


def test_a_table_without_labels_does_not_hide_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    assert opened(written(tmp_path, "epoch,loss\n1,2\n", "log.csv")).layout == "classes"


PIECES = st.sampled_from(
    [
        b"filename,label\n",
        b"a.png,cat\n",
        b"a.png;cat\n",
        b'"',
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b",",
        b"\n\n",
        b"label",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=12).map(b"".join)))
def test_any_bytes_are_a_table_or_a_sightline_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    try:
        table = read_table(str(path), Data())
    except SightlineError as error:
        assert "labels.csv" in error.where and error.cure
    else:
        assert all(row.file and all(row.labels) and row.line > 1 for row in table.rows)
    try:
        opened(tmp_path)
    except SightlineError as error:
        assert str(error)


def test_repeated_rows_are_used_once_and_counted(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    source = opened(written(tmp_path, "filename,label\n" + ROWS + "./0.png,cat\n3.png,dog\n3.png,dog\n"))
    assert sorted(labels_of(source)) == list(FOUR) and labels_of(source) == MEANING
    assert "3 repeated rows of labels.csv left out" in source.notes


def test_numbers_that_are_chosen_as_labels_are_not_ids_of_another_column(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    rows = "".join(f"{index}.png,{'left' if index < 2 else 'right'},{index % 2}\n" for index in range(4))
    source = opened(written(tmp_path, "filename,class,severity\n" + rows), label_column="severity")
    assert source.classes == ("0", "1") and labels_of(source)["2.png"] == "0"


def test_a_column_without_a_name_is_no_column_of_labels_or_files(tmp_path: Path) -> None:
    """Such as the index of pandas, or the cells after a last separator."""
    put(tmp_path, *FOUR)
    index = "".join(f"{number},{row}\n" for number, row in enumerate(ROWS.split()))
    assert labels_of(opened(written(tmp_path, ",filename,label\n" + index))) == MEANING
    error = open_error(written(tmp_path, ",filename,breed\n" + index))
    assert error.what == "the table has no column 'label'"
    assert "no column 'filename'" in open_error(written(tmp_path, ",bild,label\n" + index)).what
    trailing = "filename,breed,\n" + ROWS.replace("\n", ",done\n")
    assert open_error(written(tmp_path, trailing)).what == "the table has no column 'label'"


def test_the_mark_of_a_separator_by_excel_is_read(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    text = "sep=;\r\nfilename;label\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n")
    assert labels_of(opened(written(tmp_path, text))) == MEANING


def test_a_table_of_labels_that_cannot_be_read_is_not_replaced_by_file_names(tmp_path: Path) -> None:
    put(tmp_path, *(f"{label}_{number}.png" for label in "ab" for number in range(3)))
    assert opened(tmp_path).layout == "filename"
    (tmp_path / "labels.csv").write_bytes("filename,label\na_0.png,b\n".encode("utf-16"))
    assert "iconv -f UTF-16" in open_error(tmp_path).cure


def test_other_tables_are_named(tmp_path: Path) -> None:
    put(tmp_path, *FOUR)
    (tmp_path / "corrected.csv").write_text("filename,label\n" + ROWS)
    notes = opened(written(tmp_path, "filename,label\n" + ROWS)).notes
    assert notes[0] == "found labels in labels.csv; not used: corrected.csv"


def test_names_in_another_case_are_named(tmp_path: Path) -> None:
    put(tmp_path, *(f"a{name}" for name in FOUR))
    error = open_error(written(tmp_path, "filename,label\n" + "".join(f"A{row.upper()}\n" for row in ROWS.split())))
    assert "'a0.png' there has another case or folder" in error.why
