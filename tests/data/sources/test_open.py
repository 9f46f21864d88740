"""Every layout is recognized, the same data give the same splits, and mistakes are reported with a cure."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.config.schema import Data
from sightline.data.sources import libraries
from sightline.data.sources.labels import suggest_pattern
from sightline.data.sources.libraries import open_digits
from sightline.errors import ENVIRONMENT
from source_toys import class_folders, labels_of, open_error, opened, put


@pytest.mark.parametrize("val", ["val", "validation", "valid", "val_50", "Validation"])
def test_split_folders_with_class_folders(tmp_path: Path, val: str) -> None:
    train = "train_50" if val == "val_50" else "train"
    class_folders(tmp_path / train, {"dog": 3, "cat": 2})
    class_folders(tmp_path / val, {"cat": 1, "dog": 1})
    class_folders(tmp_path / "test", {"cat": 1, "dog": 2})
    source = opened(tmp_path)
    assert (source.layout, source.classes, list(source.splits)) == ("splits", ("cat", "dog"), ["train", "val", "test"])
    assert labels_of(source, "train")[f"{train}/dog/2.png"] == "dog"
    assert list(labels_of(source, "val")) == [f"{val}/cat/0.png", f"{val}/dog/0.png"]
    assert source.splits["train"].read(1).getpixel((0, 0))[0] == 4, "cat/1.png is the fifth image that was written"
    assert f"{train}/ and {val}/ and test/" in source.notes[0]


def test_split_folders_with_indices_in_file_names(tmp_path: Path) -> None:
    put(tmp_path, *(f"train_50/{label}_{number}.png" for label in (0, 2, 10) for number in range(3)))
    put(tmp_path, "val_50/10_9.png", "val_50/0_9.png")
    assert opened(tmp_path).classes == ("0", "2", "10")
    (tmp_path / "classes.txt").write_text("\n".join(f"name {i}" for i in range(11)) + "\n", encoding="utf-8-sig")
    source = opened(tmp_path)
    assert source.layout == "splits" and len(source.classes) == 11
    assert labels_of(source, "val") == {"val_50/0_9.png": "name 0", "val_50/10_9.png": "name 10"}
    assert any("train has no image of 8" in note for note in source.notes)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert "'10'" in open_error(tmp_path).why


def test_the_declared_class_order_is_used(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 3, "dog": 3})
    assert opened(tmp_path, classes=("dog", "cat")).classes == ("dog", "cat")
    assert "'cat'; did you mean 'cats'?" in open_error(tmp_path, classes=("dog", "cats")).why
    (tmp_path / "classes.txt").write_text("001.dog\n002.cat\n")
    assert "remove this list" in open_error(tmp_path).cure


def test_class_folders_with_the_same_folders_are_noted(tmp_path: Path) -> None:
    class_folders(tmp_path / "2023", {"cat": 3, "dog": 3})
    class_folders(tmp_path / "2024", {"cat": 3, "dog": 3})
    notes = opened(tmp_path).notes
    assert any("the classes are 2023, 2024, each of which contains the folders cat, dog" in note for note in notes)
    class_folders(tmp_path, {"2024": 1})
    assert not any("each of which contains" in note for note in opened(tmp_path).notes)


def test_class_folders_are_split_by_seed(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 20, "b": 10, "c": 2, "d": 1})
    before = sorted(tmp_path.rglob("*"))
    source = opened(tmp_path, val_fraction=0.2)
    counts = [np.bincount(source.splits[split].labels, minlength=4).tolist() for split in ("train", "val")]
    assert source.layout == "classes" and counts == [[16, 8, 1, 1], [4, 2, 1, 0]]
    assert not set(source.splits["train"].names) & set(source.splits["val"].names)
    assert opened(tmp_path, val_fraction=0.2).splits["val"].names == source.splits["val"].names
    assert opened(tmp_path, seed=1, val_fraction=0.2).splits["val"].names != source.splits["val"].names
    assert sorted(tmp_path.rglob("*")) == before
    level = int(source.splits["val"].names[0].split("/")[1].removesuffix(".png"))
    assert np.asarray(source.splits["val"].read(0))[0, 0, 0] == level


def test_the_test_split_is_never_used_for_validation(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 4, "b": 4})
    class_folders(tmp_path / "test", {"a": 2, "b": 2})
    source = opened(tmp_path)
    assert list(source.splits) == ["train", "val", "test"]
    assert all(name.startswith("train/") for name in source.splits["val"].names)
    assert all(name.startswith("test/") for name in source.splits["test"].names)
    assert any("the split test is not used for validation" in note for note in source.notes)


def test_a_test_split_without_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{label}.{number}.jpg" for label in ("cat", "dog") for number in range(4)))
    put(tmp_path, "test/1.jpg", "test/2.jpg")
    source = opened(tmp_path, pattern="{label}.{id}")
    assert source.splits["test"].labels is None and source.classes == ("cat", "dog")
    assert "test/ has no labels" in source.notes
    put(tmp_path, "val/1.jpg")
    assert "pattern matched 0 of 1" in open_error(tmp_path, pattern="{label}.{id}").what


def test_a_flat_test_split_beside_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 4, "b": 4})
    put(tmp_path, "test/1.png")
    source = opened(tmp_path)
    assert source.splits["test"].labels is None and source.layout == "splits"


def test_loose_images_beside_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 4, "b": 4})
    class_folders(tmp_path / "val", {"a": 4, "b": 4})
    put(tmp_path, "val/loose.png")
    assert "'val/loose.png'" in open_error(tmp_path).what


def test_label_in_file_name(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}_{number:03d}.png" for name in ("aquarium_fish", "bear") for number in range(5)))
    source = opened(tmp_path)
    assert (source.layout, source.classes) == ("filename", ("aquarium_fish", "bear"))
    put(tmp_path, "loose.png")
    assert "pattern matched 10 of 11 file names, but not 'loose.png'" in open_error(tmp_path).what


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{id}_{label}", "001_sea_lion"), ("{label}-{id}", "sea_lion-1"), ("img.{label}", "img.sea_lion")],
)
def test_custom_patterns(tmp_path: Path, pattern: str, name: str) -> None:
    other = name.replace("sea_lion", "cow")
    put(tmp_path, *(f"{folder}/{stem}.png" for folder in ("x", "y") for stem in (name, other)))
    assert opened(tmp_path, layout="filename", pattern=pattern).classes == ("cow", "sea_lion")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{id}_{label}", "{0}_{1}"), ("{label}-{id}", "{1}-{0}"), ("{label} {id}", "{1} {0}"), ("", "{0}{1}")],
)
def test_a_pattern_is_suggested(tmp_path: Path, pattern: str, name: str) -> None:
    put(tmp_path, *(name.format(f"{number:03d}", ("cat", "dog")[number % 2]) + ".png" for number in range(8)))
    put(tmp_path, "cover.png")
    source = opened(tmp_path)
    assert source.layout == "unlabelled"
    hint = f"; if the file names contain the label: --data.layout filename --data.pattern '{pattern}'"
    assert source.notes[0] == "found images without labels" + (hint if pattern else "")
    assert opened(tmp_path, layout="unlabelled").notes[0] == "found images without labels"
    assert (f"--data.pattern '{pattern}'" in open_error(tmp_path, layout="filename").cure) == bool(pattern)
    (tmp_path / "cover.png").unlink()
    if pattern:
        assert opened(tmp_path, layout="filename", pattern=pattern).classes == ("cat", "dog")


def test_no_pattern_is_suggested_for_names_without_labels() -> None:
    for names in (["IMG_1", "IMG_2", "IMG_3"], ["beach_dog", "hill_car"], [], ["a", "b"]):
        assert suggest_pattern([f"{name}.png" for name in names]) == ""


@pytest.mark.parametrize("pattern", ["{id}", "{label}{label}", "{label}_{name}", "x"])
def test_invalid_patterns(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "a_1.png")
    assert open_error(tmp_path, layout="filename", pattern=pattern).where == "data.pattern"


def test_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "IMG_1.png", "IMG_2.png", "deep/er/IMG_3.png")
    assert "directly in the folder and in its subfolders" in open_error(tmp_path).what
    source = opened(tmp_path, layout="unlabelled")
    assert source.splits["train"].names == ("IMG_1.png", "IMG_2.png", "deep/er/IMG_3.png")
    assert source.splits["train"].labels is None and source.classes == () and list(source.splits) == ["train"]
    for name in ("IMG_1.png", "IMG_2.png"):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "train" / name)
    (tmp_path / "val").mkdir()
    (tmp_path / "deep" / "er" / "IMG_3.png").rename(tmp_path / "val" / "IMG_3.png")
    (tmp_path / "deep" / "er").rmdir()
    (tmp_path / "deep").rmdir()
    source = opened(tmp_path)
    assert source.layout == "unlabelled" and [len(s.names) for s in source.splits.values()] == [2, 1]


def test_hidden_and_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2, ".ipynb_checkpoints": 1, "__MACOSX": 1})
    put(tmp_path, "a/._0.png")
    (tmp_path / "a" / "Thumbs.db").write_text("x")
    (tmp_path / "b" / "readme.txt").write_text("x")
    (tmp_path / "b" / "note.txt").write_text("x")
    source = opened(tmp_path)
    assert source.classes == ("a", "b") and sum(len(s.names) for s in source.splits.values()) == 4
    assert "left out: 4 hidden files, 2 .txt files" in source.notes


def test_pipes_and_folders_are_not_images(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    put(tmp_path, "a/folder.png/inner.png")
    assert sum(len(s.names) for s in opened(tmp_path).splits.values()) == 5


def test_link_loops_are_skipped_and_broken_links_are_kept(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self.png").symlink_to(tmp_path / "b" / "self.png")
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = opened(tmp_path)
    names = {name for items in source.splits.values() for name in items.names}
    assert {"b/gone.png", "b/self.png"} < names
    assert sum(name.startswith("a/") for name in names) == 2
    assert any("repeated link" in note for note in source.notes)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "b").chmod(0)
    try:
        assert open_error(tmp_path).status == ENVIRONMENT
    finally:
        (tmp_path / "b").chmod(0o755)


def test_any_file_name_is_supported(tmp_path: Path) -> None:
    names = ["-rf", "two\nlines", "<script>", "é", os.fsdecode(b"bad\xff")]
    class_folders(tmp_path, dict.fromkeys(names, 2))
    source = opened(tmp_path)
    assert set(source.classes) == set(names)
    assert source.splits["val"].read(0).size == (4, 4)


def test_stamps_change_with_the_file(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    before = opened(tmp_path).splits["train"]
    os.utime(tmp_path / before.names[0], ns=(1, 1))
    after = opened(tmp_path).splits["train"]
    assert after.stamps[0] != before.stamps[0] and after.stamps[1:] == before.stamps[1:]


def test_errors_for_wrong_folders(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    class_folders(root, {"a": 2})
    assert "if this is the folder of one class" in open_error(root).cure
    (root / "empty").mkdir()
    (root / "empty" / "notes.txt").write_text("x")
    assert "'empty': 1 .txt file" in open_error(root).why
    put(root, "empty/1.png", "empty/2.png", "A/1.png")
    assert "'A' and 'a'" in open_error(root).what
    assert "birds" in open_error(tmp_path / "bird").cure
    assert "the option --data is missing" in open_error("").what
    (tmp_path / "x.zip").write_text("")
    assert "unzip" in open_error(tmp_path / "x.zip").cure


def test_a_mistyped_path(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert open_error(tmp_path / "photos3").cure == f"did you mean {str(tmp_path / 'photos')!r}?"
    assert open_error(tmp_path / "archive").cure == "check the path"


def test_class_names_that_differ_in_unicode_normalization(tmp_path: Path) -> None:
    class_folders(tmp_path, {"caf\u00e9": 2, "cafe\u0301": 2})
    assert "differ only in case, spaces or Unicode normalization" in open_error(tmp_path).what


def test_a_folder_without_images(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x")
    error = open_error(tmp_path)
    assert "3 .txt files" in error.why and "PNG, JPEG" in error.cure


def test_data_one_level_deeper(tmp_path: Path) -> None:
    class_folders(tmp_path / "birds" / "train", {"a": 2, "b": 2})
    class_folders(tmp_path / "birds" / "val", {"a": 2, "b": 2})
    assert open_error(tmp_path).cure == f"use the data set in it: --data {tmp_path / 'birds'}"
    class_folders(tmp_path / "other" / "train_50", {"a": 2, "b": 2})
    assert f"--data {tmp_path / 'other'}" in open_error(tmp_path).cure


def test_classes_must_agree_between_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    class_folders(tmp_path / "val", {"c": 1, "a": 1})
    source = opened(tmp_path)
    assert source.splits["val"].labels.tolist() == [0, 2]
    assert any("val has no image of 1 of the classes (b)" in note for note in source.notes)
    class_folders(tmp_path / "val", {"d": 1})
    assert "'d'" in open_error(tmp_path).why


def test_forced_layout(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 2, "val/b": 2})
    assert opened(tmp_path, layout="classes").classes == ("train", "val")
    assert opened(tmp_path, layout="unlabelled").splits["train"].labels is None
    assert "no table" in open_error(tmp_path, layout="csv").what
    assert "no training split" in open_error(tmp_path / "train", layout="splits").what


def test_digits() -> None:
    source = opened("sklearn:digits")
    labels = {split: items.labels for split, items in source.splits.items()}
    assert len(labels["train"]) + len(labels["val"]) == 1797 and len(source.classes) == 10
    assert np.bincount(labels["val"]).min() >= 17
    pixels = np.asarray(source.splits["train"].read(0))
    assert pixels.shape == (8, 8, 3) and pixels.max() == 255 * 15 // 16
    assert open_digits(Data(path="digits"), 0).splits["val"].names == source.splits["val"].names
    assert "sklearn:digits" in open_error("sklearn:iris").cure


def test_torchvision_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy:
        """Replacement for a torchvision data set: gray images whose value is their index."""

        classes = ("even", "odd")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            if not Path(root).is_dir():
                raise RuntimeError("Dataset not found")
            self.targets = [index % 2 for index in range(40 if train else 10)]

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("L", (4, 4), index), self.targets[index]

    toy = libraries.LibraryEntry(Toy, libraries.TRAIN_FLAG, lambda content: content.targets)
    monkeypatch.setattr(libraries, "entries", lambda: {"Toy": toy})
    source = opened(f"torchvision:Toy:{tmp_path}")
    assert {split: len(items.names) for split, items in source.splits.items()} == {"train": 36, "val": 4, "test": 10}
    assert source.layout == "torchvision" and list(source.splits) == ["train", "val", "test"]
    index = int(source.splits["val"].names[2].split("/")[1])
    assert source.splits["val"].read(2).getpixel((0, 0)) == (index,) * 3
    assert index % 2 == source.splits["val"].labels[2]
    assert "--data.download true" in open_error(f"torchvision:Toy:{tmp_path / 'none'}").cure
    assert not (tmp_path / "none").exists()
    assert "with one of Toy" in open_error("torchvision:Toyz").cure
    whole = opened(f"torchvision:Toy:{tmp_path}", hold_out=False).splits
    assert [len(items.names) for items in whole.values()] == [40, 10]
    toy = libraries.LibraryEntry(
        lambda root, download: Toy(root, True, download), libraries.UNSPLIT, lambda d: d.targets
    )
    whole = opened(f"torchvision:Toy:{tmp_path}", hold_out=False).splits
    assert list(whole) == ["all"] and whole["all"].names[0] == "train/000000"


def test_torchvision_data_sets_are_not_downloaded_by_default(tmp_path: Path) -> None:
    assert {"CIFAR10", "CIFAR100", "Flowers102"} <= set(libraries.entries())
    assert "missing or damaged" in open_error(f"torchvision:CIFAR10:{tmp_path}").what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", ["", "train/", "val/"])
def test_class_folders_without_images_are_an_error(tmp_path: Path, split: str) -> None:
    for folder in ("train/", "val/") if split else ("",):
        class_folders(tmp_path / folder, {"a": 3, "b": 3})
    (tmp_path / split / "bare").mkdir()
    (tmp_path / split / "other").mkdir()
    (tmp_path / split / "other" / "notes.txt").write_text("x")
    error = open_error(tmp_path)
    assert error.what == "no images in 2 class folders" and "add images to these folders or remove them" in error.cure
    assert f"'{split}bare': empty" in error.why and f"'{split}other': 1 .txt file" in error.why
