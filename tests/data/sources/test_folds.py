"""Folds of the training images: `data.fold`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sightline.data.sources.splits import fold_mask
from source_toys import class_folders, open_error, opened, put


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_disjoint_complete_stratified_and_keep_groups(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    groups = [f"g{index // 4 if grouped else index}" for index in range(300)]
    masks = np.array([fold_mask(labels, groups, f"{fold}/5", 0) for fold in range(1, 6)])
    assert (masks.sum(0) == 1).all()
    assert masks.sum(1).min() >= 50 and masks.sum(1).max() <= 70
    shares = np.array([np.bincount(labels[mask], minlength=3) / mask.sum() for mask in masks])
    assert np.ptp(shares, axis=0).max() < (0.15 if grouped else 0.04)
    owner = dict(zip(groups, masks.argmax(0).tolist(), strict=True))
    assert [owner[group] for group in groups] == masks.argmax(0).tolist(), "a group is divided"
    assert not np.array_equal(masks[0], fold_mask(labels, groups, "1/5", 1)), "the seed has no effect"


def test_a_rare_class_is_in_some_folds() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    masks = [fold_mask(labels, list(map(str, range(12))), f"{fold}/4", 0) for fold in range(1, 5)]
    assert sum(int(labels[mask].sum()) for mask in masks) == 2
    alone = [fold_mask(np.arange(4), list("abcd"), f"{fold}/4", 0) for fold in range(1, 5)]
    assert (np.array(alone).sum(0) == 1).all(), "classes of one image"


def test_a_fold_of_a_folder_is_its_validation_set(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 8, "b": 4})
    copy = tmp_path / "a" / "copy.png"
    copy.write_bytes((tmp_path / "a" / "0.png").read_bytes())
    folds = [opened(tmp_path, fold=f"{fold}/4") for fold in range(1, 5)]
    names = [set(source.splits["val"].names) for source in folds]
    assert sorted(name for each in names for name in each) == sorted(
        name for split in folds[0].splits.values() for name in split.names
    )
    assert any({"a/0.png", "a/copy.png"} <= each for each in names), "copies are in one fold"
    assert "validation set: fold 2/4 (split seed 0)" in folds[1].notes


def test_groups_and_an_inner_split_within_a_fold(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{clip}_{frame}.png" for name in "ab" for clip in range(6) for frame in range(3)))
    source = opened(tmp_path, fold="1/3", group="{group}_*", inner_fraction=0.25)
    clips = {split: {name.rpartition("_")[0] for name in items.names} for split, items in source.splits.items()}
    assert {split: len(found) for split, found in clips.items()} == {"train": 6, "val": 2, "outer": 4}
    assert len(set.union(*clips.values())) == 12, "a clip is in two splits"


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1"])
def test_a_fold_that_does_not_exist(tmp_path: Path, fold: str) -> None:
    class_folders(tmp_path, {"a": 8, "b": 4})
    assert open_error(tmp_path, fold=fold).what == f"there is no fold {fold}"


def test_more_folds_than_images_or_groups(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    assert open_error(tmp_path, fold="1/7").what == "7 folds cannot be made of 6 different images or groups"


def test_folds_need_labels_and_no_validation_split(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    error = open_error(make_photos(tmp_path / "split"), fold="1/5")
    assert error.what.startswith("these data have a validation split") and "--seeds 0,1,2" in error.cure
    put(tmp_path / "flat", "1.png", "2.png")
    assert "no labels" in open_error(tmp_path / "flat", fold="1/2").what
