"""What is said on the data before a training: the doctor's line, and films."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from film_toys import write_films
from sightline.config.resolve import resolve
from sightline.config.schema import Data
from sightline.data.cache import DIGESTS, seal_of
from sightline.data.image_cache import decode
from sightline.data.sources.open import open_source
from sightline.data.types import Decoded
from sightline.doctor import quick
from sightline.doctor.quick import copies, divided_films, doctor_command, film_option, quick_line
from sightline.recipes import RECIPES
from sightline.runs.atomic import read_json, write_json


def line_of(root: Path, size: int = 16, val_size: int = 16) -> str:
    data = Data(path=str(root), size=size)
    source = open_source(data, 0)
    quiet = lambda text: None  # noqa: E731
    splits = {"train": decode(source, "train", size, data, quiet), "val": decode(source, "val", val_size, data, quiet)}
    return quick_line(Data(path=str(root)), splits)


def test_copies_conflicts_and_classes_are_counted(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "my photos", train=20)
    assert line_of(root).startswith("doctor: no finding")
    shutil.copy(root / "train/class_0/1.png", root / "val/class_0/leak.png")
    shutil.copy(root / "train/class_0/2.png", root / "val/class_0/leak2.png")
    shutil.copy(root / "train/class_1/1.png", root / "train/class_2/other.png")
    shutil.copy(root / "train/class_1/5.png", root / "train/class_1/copy.png")
    shutil.rmtree(root / "val" / "class_3")
    line = line_of(root)
    assert line.startswith("doctor: 4 findings (2 images in both splits; 1 image with several labels; 1 image more")
    assert "val has no image of 1 of 4 classes" in line
    assert line.endswith(f"sightline doctor '{root}'")


def test_the_suggested_command_has_the_data_settings_of_the_run() -> None:
    data = Data(path="my masks", size=32, colors={"a": (0, 0, 0), "b": (255, 255, 0)}, ignore=("a",))
    words = shlex.split(doctor_command(data))
    assert words[:3] == ["sightline", "doctor", "my masks"] and "--data.size" not in words
    given = dict(zip((word.removeprefix("--data.") for word in words[3::2]), words[4::2], strict=True))
    read = resolve(RECIPES["photos_scratch"](), {f"data.{key}": value for key, value in given.items()}).data
    assert (read.colors, read.ignore) == (data.colors, data.ignore)


def test_splits_of_different_sizes_are_not_compared(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", size=48)
    shutil.copy(root / "train/class_0/1.png", root / "val/class_0/leak.png")
    assert "both splits" not in line_of(root, 24, 16)


def test_cache_entries_without_digests_are_used(
    make_photos: Callable[..., Path], tmp_path: Path, own_cache: Path
) -> None:
    root = make_photos(tmp_path / "photos")
    data = Data(path=str(root), size=16)
    source = open_source(data, 0)
    first = decode(source, "train", 16, data, lambda text: None)
    assert first.digests is not None and first.digests.shape == (64, 16)
    assert len(np.unique(first.digests, axis=0)) == 64
    for path in own_cache.glob(f"*/{DIGESTS}"):
        path.unlink()
        meta = read_json(path.with_name("meta.json"))
        assert isinstance(meta, dict)
        old = {key: value for key, value in meta.items() if key not in ("seal", "digests_sha256")}
        write_json(path.with_name("meta.json"), old | {"seal": seal_of(old)})
    again = decode(source, "train", 16, data, lambda text: None)
    assert again.digests is None and again.digest == first.digest
    assert quick_line(Data(path="x"), {"train": again}).startswith("doctor: no finding")


def test_the_suggested_command_reads_label_sets_as_the_run_did() -> None:
    data = Data(path="labels.csv", labels="several", separator="|")
    assert doctor_command(data) == "sightline doctor labels.csv --data.labels several --data.separator '|'"


def test_the_suggested_command_names_the_columns_and_the_order_of_shapes() -> None:
    data = Data(path="data", file_column="shot", label_column="animals", overlap="smaller")
    words = "--data.label_column animals --data.file_column shot --data.overlap smaller"
    assert doctor_command(data) == f"sightline doctor data {words}"


def said(**settings: str) -> str:
    data = Data.model_validate(settings)
    return divided_films(open_source(data, 0, hold_out=False), data)


def test_films_are_named_with_the_option_that_keeps_them_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_films(tmp_path / "films"))
    found = said(path=path)
    assert found.startswith("120 of 120 images are of 4 films") and "--data.group '{group}_*'" in found
    assert said(path=path, group="{group}_*") == "" and said(path=path, group="none") == ""
    monkeypatch.setattr(quick, "MOST_READ", 100)
    assert said(path=path) == "", "too many to read"


def test_the_option_is_one_with_which_images_can_be_held_out() -> None:
    """Films of two classes with the same names, names with hyphens, and classes of one film."""
    names = [f"{kind}/{film}_{frame:03}.png" for kind in "xy" for film in ("one", "two") for frame in range(3)]
    films, labels = [row // 3 for row in range(12)], [row // 6 for row in range(12)]
    assert film_option(names, films, labels) == "--data.group '{group}_*'"
    assert film_option([name.replace("_", "-") for name in names], films, labels).startswith("--data.group '(?P<group>")
    assert film_option(names[:3] + names[6:9], [0] * 3 + [1] * 3, [0] * 3 + [1] * 3).startswith("a column `group`")
    assert film_option([name.replace("_", "") for name in names], films, labels).startswith("a column `group`")


def test_unlabeled_copies_have_no_other_label() -> None:
    images, digests = np.zeros((1, 3, 4, 4), np.uint8), np.zeros((1, 16), np.uint8)
    train = Decoded(images, np.array([0]), ("a.png",), ("cat",), "", 0, digests)
    assert copies({"train": train, "val": replace(train, labels=None)}) == ["1 image in both splits"]


def test_given_splits_and_other_pictures_are_no_films(tmp_path: Path, photos: Path) -> None:
    assert said(path=str(write_films(tmp_path / "films", ("train", "val")))) == ""
    assert said(path=str(photos / "train")) == ""


def test_images_that_cannot_be_read_are_left_to_the_training(tmp_path: Path) -> None:
    path = write_films(tmp_path / "films")
    next(path.rglob("*.png")).write_bytes(b"no picture")
    assert said(path=str(path)) == ""
