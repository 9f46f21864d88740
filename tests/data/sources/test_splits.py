"""Split names, held-out validation images, and evaluation without a division."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.data.sources.splits import held_out, split_of
from source_toys import class_folders, labels_of, open_error, opened


def test_held_out_images_do_not_depend_on_other_classes() -> None:
    labels = np.repeat([0, 1], 50)
    mask = held_out(labels, 0.1, 3)
    assert mask.sum() == 10 and np.array_equal(mask[:50], held_out(labels[:50], 0.1, 3))


@pytest.mark.parametrize(
    ("name", "split"),
    [("train_50", "train"), ("Valid", "val"), ("test-x", "test"), ("trainannot", None), ("tests", None)],
)
def test_split_of(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_classes_named_like_splits(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train": 2, "train_station": 2, "test_tube": 2, "harbor": 2})
    assert opened(tmp_path).classes == ("harbor", "test_tube", "train", "train_station")


def test_two_names_of_one_split_are_an_error(tmp_path: Path) -> None:
    for name in ("train_50", "train_100", "val"):
        class_folders(tmp_path / name, {"a": 2, "b": 2})
    assert "'train_100', 'train_50'" in open_error(tmp_path).what


@pytest.mark.parametrize("name", ["dev", "eval", "Holdout", "development", "evaluation"])
def test_other_names_of_the_validation_split(tmp_path: Path, name: str) -> None:
    class_folders(tmp_path / "train", {"a": 3, "b": 3})
    class_folders(tmp_path / name, {"a": 1, "b": 1})
    source = opened(tmp_path)
    assert source.classes == ("a", "b") and list(labels_of(source, "val")) == [f"{name}/a/0.png", f"{name}/b/0.png"]
    assert f"found train/ and {name}/ (as val)" in source.notes[0]
    class_folders(tmp_path / "val", {"a": 1, "b": 1})
    assert "several files or folders have names of the val split" in open_error(tmp_path).what
    assert f"'{name}'" in open_error(tmp_path, layout="splits").what


def test_classes_named_like_other_names_of_splits(tmp_path: Path) -> None:
    class_folders(tmp_path, {"dev": 2, "holdout": 2, "train_station": 2})
    assert opened(tmp_path).classes == ("dev", "holdout", "train_station")


@pytest.mark.parametrize("train", ["train", "train_50"])
def test_a_folder_beside_train_without_a_split_name_is_an_error(tmp_path: Path, train: str) -> None:
    class_folders(tmp_path / train, {"a": 3, "b": 3})
    class_folders(tmp_path / "check_50", {"a": 1, "b": 1})
    error = open_error(tmp_path)
    assert f"'{train}' looks like a training split" in error.what
    assert "to 'train', and 'check_50' to 'val' or 'test'" in error.cure
    assert opened(tmp_path, layout="classes").classes == ("check_50", train)
    (tmp_path / "check_50").rename(tmp_path / "val")
    (tmp_path / train).rename(tmp_path / "train")
    assert opened(tmp_path).classes == ("a", "b")


def test_nothing_is_held_out_for_evaluation(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    source = opened(tmp_path, hold_out=False)
    assert list(source.splits) == ["all"] and len(labels_of(source, "all")) == 6 and source.layout == "classes"
    assert source.notes[-1] == "all 6 images of 2 classes"
    shutil.rmtree(tmp_path / "b")
    source = opened(tmp_path, hold_out=False)
    assert set(labels_of(source, "all").values()) == {"a"} and source.classes == ("a",)
    assert "only 1 class was found" in open_error(tmp_path).what
    (tmp_path / "classes.txt").write_text("z\na\n")
    source = opened(tmp_path, hold_out=False)
    assert source.splits["all"].labels.tolist() == [1, 1, 1] and source.classes == ("z", "a")
    digits = opened("sklearn:digits", hold_out=False)
    assert {split: len(items.names) for split, items in digits.splits.items()} == {"all": 1797}


@pytest.mark.parametrize("splits", [["test"], ["val"], ["val", "test"], ["train", "test"]])
def test_evaluation_accepts_any_splits(tmp_path: Path, splits: list[str]) -> None:
    for split in splits:
        class_folders(tmp_path / split, {"a": 2, "b": 1})
    source = opened(tmp_path, hold_out=False)
    assert list(source.splits) == splits and source.classes == ("a", "b")
    assert all(list(labels_of(source, split).values()) == ["a", "a", "b"] for split in splits)
    if "train" not in splits:
        assert "no training split" in open_error(tmp_path).what
