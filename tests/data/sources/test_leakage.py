"""Copies of a file, links to it and groups of images must be in one split."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from config_toys import configured
from sightline.config.schema import Config, Data
from sightline.data.cache import COPIES, cache_clear
from sightline.data.sources import leakage
from sightline.data.sources.leakage import copies_among, inner_split, reject_leaks
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.data.sources.splits import ALL, OUTER, held_out, held_out_groups
from sightline.data.types import Items, Source
from sightline.errors import SightlineError
from sightline.tasks.segment.build import open_masked
from source_toys import open_error, opened, put


def numbered(root: Path, counts: dict[str, int]) -> None:
    put(root, *(f"{label}/{number:03}.png" for label, count in counts.items() for number in range(count)))


@pytest.fixture
def leaky(make_photos: Callable[..., Path], tmp_path: Path) -> Path:
    """Class folders with a copy in train and val, and another in val and test."""
    root = make_photos(tmp_path / "my photos", train=4, val=2, test=2)
    shutil.copy(root / "train/class_0/1.png", root / "val/class_0/leak.png")
    shutil.copy(root / "val/class_1/10000.png", root / "test/class_1/again.png")
    return root


def test_identical_files_in_two_splits_are_an_error_unless_on_copies_is_warn(
    leaky: Path, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str], no_figures: None
) -> None:
    settings = tiny | {"train.epochs": 1}
    with pytest.raises(SightlineError, match="2 images are in several splits") as caught:
        sightline.train("photos_scratch", leaky, out=tmp_path / "run", quiet=True, **settings)
    assert "train/class_0/1.png = val/class_0/leak.png (train and val)" in caught.value.why
    assert "test/class_1/again.png = val/class_1/10000.png (val and test)" in caught.value.why
    assert f"sightline doctor '{leaky}' --fix" in caught.value.cure
    assert "--data.on_copies warn" in caught.value.cure and not (tmp_path / "run").exists()
    run = sightline.train("photos_scratch", leaky, out=tmp_path / "run", **settings | {"data.on_copies": "warn"})
    note = "warning: 2 images are in several splits, as identical files, so the scores may be too high"
    assert note in capsys.readouterr().out and note in (run.path / "provenance.json").read_text()


def test_the_note_has_the_number_of_images_if_small_classes_give_more_than_the_share(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    small, large = "4 of 8 images (at least one of each class)", "25% of each class"
    for folder, count, note in (("two", 2, small), ("ten", 10, large)):
        root = make_photos(tmp_path / folder, train=count, val=0) / "train"
        notes = opened(root, val_fraction=0.25).notes
        assert f"no validation split: {note} held out of train (seed 0)" in notes


def test_identical_files_are_left_out_of_train(
    leaky: Path, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str], no_figures: None
) -> None:
    settings = tiny | {"train.epochs": 1, "data.on_copies": "leave_out"}
    with pytest.raises(SightlineError, match="1 image is in several splits") as caught:
        sightline.train("photos_scratch", leaky, out=tmp_path / "run", **settings)
    assert "(val and test)" in caught.value.why, "leaving an image out of train does not separate val from test"
    assert "leave_out" not in caught.value.cure and "trained on" not in caught.value.why
    (leaky / "test/class_1/again.png").unlink()
    shutil.copy(leaky / "train/class_1/2.png", leaky / "train/class_1/twice.png")
    run = sightline.train("photos_scratch", leaky, out=tmp_path / "run", **settings)
    assert "1 training image left out: train/class_0/1.png" in capsys.readouterr().out
    assert "train/class_0/1.png" not in (run.path / "splits.csv").read_text()
    assert sightline.evaluate(run, split="train")["images"] == 16, "copies within train stay"
    assert "changed" not in capsys.readouterr().out


def test_identical_files_are_left_out_of_the_inner_split_too(tmp_path: Path) -> None:
    numbered(tmp_path / "train", {"a": 40, "b": 40})
    numbered(tmp_path / "val", {"a": 10, "b": 10})
    for path in sorted((tmp_path / "val").rglob("*.png")):
        shutil.copy(path, tmp_path / "train" / path.parent.name / f"copy-{path.name}")
    data = Data(path=str(tmp_path), inner_fraction=0.2, on_copies="leave_out")
    whole, said = open_source(data, 0), list[str]()
    copies = [name for name in whole.splits["val"].names if "copy" in name]
    assert copies, "the inner split has some of the copies"
    source = reject_leaks(whole, data, said.append)
    assert said[0].startswith("20 training images left out: train/a/copy-000.png")
    assert [len(source.splits[split].names) for split in ("val", OUTER)] == [20 - len(copies), 20]
    assert not copies_among(str(tmp_path), source.splits, data)


def test_named_training_images_are_left_out(leaky: Path) -> None:
    names = ("train/class_0/1.png", "train/class_2/3.png")
    source = opened(leaky, leave_out=names)
    assert "2 training images left out: train/class_0/1.png, train/class_2/3.png" in source.notes
    assert len(source.splits["train"].names) == 14 and not {*names} & {*source.splits["train"].names}
    assert "14 train + 9 val + 9 test images of 4 classes" in source.notes
    error = open_error(leaky, leave_out=(names[0], "val/class_0/leak.png", "nothing.png"))
    assert "2 of the paths in data.leave_out are not training images: nothing.png, val/class_0/leak" in error.what


def test_images_that_are_left_out_do_not_change_the_held_out_split(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_photos(tmp_path / "photos", train=10, val=0) / "train"
    whole = opened(root).splits
    left = whole["train"].names[5]
    source = opened(root, leave_out=(left,))
    assert source.splits["val"].names == whole["val"].names and len(source.splits["train"].names) == 35
    assert left not in opened(root, hold_out=False, leave_out=(left,)).splits[ALL].names


@pytest.mark.parametrize("task", ["byol", "segment"])
def test_every_task_rejects_validation_images_in_train(
    task: str, leaky: Path, make_scenes: Callable[..., Path], tmp_path: Path, small: Callable[..., Config]
) -> None:
    if task == "byol":
        with pytest.raises(SightlineError, match="in several splits"):
            sightline.train(small(), leaky, out=tmp_path / "run", quiet=True)
        return
    scenes = make_scenes(tmp_path / "scenes", train=2, val=2)
    settings = {"task": "segment", "train.best_metric": "mean_iou", "data.palette": "landcover"}
    config = configured(settings | {"data.path": str(scenes)})
    assert open_masked(config, lambda text: None)
    shutil.copy(scenes / "train/0000_mask.png", scenes / "validation/0900_mask.png")
    assert open_masked(config, lambda text: None), "identical masks are not a leak"
    shutil.copy(scenes / "train/0000_sat.jpg", scenes / "validation/0900_sat.jpg")
    with pytest.raises(SightlineError, match="1 image is in several splits") as caught:
        open_masked(config, lambda text: None)
    assert "clean-list" not in caught.value.cure, "clean lists are for labeled images"


def test_only_files_of_equal_size_are_hashed_and_results_are_cached(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (99, 77)).save(leaky / "val/class_0/alone.png")
    (leaky / "val/class_0/none.png").write_bytes(b"")
    (leaky / "train/class_0/none.png").write_bytes(b"")
    data = Data(path=str(leaky), cache_dir=str(tmp_path / "cache"))
    splits, read, real = open_source(data, 0).splits, [], leakage.digest_of
    monkeypatch.setattr(leakage, "digest_of", lambda path: read.append(path) or real(path))
    first = copies_among(str(leaky), splits, data)
    assert sorted(map(sorted, first)) == [
        ["test/class_1/again.png", "val/class_1/10000.png"],
        ["train/class_0/1.png", "val/class_0/leak.png"],
    ]
    assert read and not any(path.endswith(("alone.png", "none.png")) for path in read)
    monkeypatch.setattr(leakage, "MEMO_FROM", 2)
    assert copies_among(str(leaky), splits, data) == first and len(list((tmp_path / "cache").glob(f"{COPIES}*"))) == 1
    read.clear()
    assert copies_among(str(leaky), splits, data) == first and not read
    (memo,) = (tmp_path / "cache").glob(f"{COPIES}*")
    memo.write_text("[[")
    assert copies_among(str(leaky), splits, data) == first and read, "a damaged file is replaced"
    os.utime(leaky / "train/class_0/1.png", ns=(1, 1))
    read.clear()
    assert copies_among(str(leaky), open_source(data, 0).splits, data) == first and read
    cache_clear(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(f"{COPIES}*"))


def test_the_error_for_indivisible_data_names_the_groups_and_their_setting(tmp_path: Path) -> None:
    numbered(tmp_path, {"apple": 6, "pear": 6})
    with pytest.raises(SightlineError) as caught:
        open_source(Data(path=str(tmp_path), group="(?P<group>[^/]+)/"), 0)
    text = str(caught.value)
    assert "'apple', 'pear'" in text and "--data.group '(?P<group>[^/]+)/'" in text and "add images" not in text
    for name in ("apple", "pear"):
        for path in sorted((tmp_path / name).iterdir())[1:]:
            path.unlink()
    with pytest.raises(SightlineError, match="add images"):
        open_source(Data(path=str(tmp_path)), 0)


def test_a_held_out_split_has_no_copy_in_train(tmp_path: Path) -> None:
    numbered(tmp_path, {"a": 20, "b": 20})
    data = Data(path=str(tmp_path), val_fraction=0.5)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    plain = open_source(data, 0).splits
    mask = held_out(np.repeat([0, 1], 20), 0.5, 0)
    assert plain["val"].names == tuple(name for name, held in zip(names, mask, strict=True) if held)
    for number, name in enumerate((names[2], names[30], names[39])):
        shutil.copy(tmp_path / name, tmp_path / name.replace(".png", f"-copy{number}.png"))
    notes = []
    for seed in range(4):
        source = open_source(data, seed)
        side = {name: split for split, items in source.splits.items() for name in items.names}
        groups = copies_among(str(tmp_path), source.splits, data)
        assert len(groups) == 3 and all(len({side[name] for name in group}) == 1 for group in groups)
        notes += [note for note in source.notes if "not held out, because the same file is in train" in note]
    assert notes


def test_copies_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    numbered(tmp_path, {"a": 1, "b": 1})
    for name in ("a", "b"):
        shutil.copy(tmp_path / name / "000.png", tmp_path / name / "001.png")
    with pytest.raises(SightlineError, match="no image can be held out") as caught:
        opened(tmp_path)
    assert "copies of one" in caught.value.why


# ---------------------------------------------------------------------------------------------------------- groups


def test_held_out_groups_are_complete_and_approximately_stratified() -> None:
    random = np.random.default_rng(0)
    labels = np.sort(random.integers(0, 5, 2000))
    groups = [f"{label}-{number}" for label, number in zip(labels, random.integers(0, 40, 2000), strict=True)]
    mask = held_out_groups(labels, groups, 0.2, 3)
    sides: dict[str, set[bool]] = {}
    for group, held in zip(groups, mask.tolist(), strict=True):
        sides.setdefault(group, set()).add(held)
    assert all(len(side) == 1 for side in sides.values())
    shares = [mask[labels == label].mean() for label in range(5)]
    assert all(abs(share - 0.2) < 0.03 for share in shares), shares
    order = random.permutation(2000)
    again = held_out_groups(labels[order], [groups[index] for index in order], 0.2, 3)
    assert np.array_equal(again, mask[order]), "the order of the files does not matter"
    assert not np.array_equal(held_out_groups(labels, groups, 0.2, 4), mask)


def test_groups_of_several_classes_and_classes_of_few_groups() -> None:
    labels = np.array([0] * 9 + [1] * 9 + [2] * 3)
    groups = list("aaabbbccc" + "aaabbbccc" + "zzz")
    mask = held_out_groups(labels, groups, 0.1, 0)
    held = {group for group, is_held in zip(groups, mask, strict=True) if is_held}
    assert len(held) == 1 and held < set("abc"), (
        "a group of 3 exceeds the target of 0.9, but one group must be held out"
    )
    assert not held_out_groups(np.array([0, 0, 1, 1]), list("aabb"), 0.5, 0).any(), "no class would be left to train on"


def write_videos(root: Path) -> None:
    """Write two classes of 10 videos of 3 frames each."""
    put(
        root, *(f"{label}/{label}{video:02}_{frame}.png" for label in "ab" for video in range(10) for frame in range(3))
    )


def videos_of(source: Source, split: str) -> set[str]:
    return {name.rsplit("_", 1)[0] for name in source.splits[split].names}


def test_data_group_keeps_frames_in_one_split(tmp_path: Path) -> None:
    write_videos(tmp_path)
    assert videos_of(opened(tmp_path, val_fraction=0.2), "val") & videos_of(opened(tmp_path, val_fraction=0.2), "train")
    settings = {"group": "(?P<group>[^/]+)_[0-9]", "val_fraction": 0.2}
    source = opened(tmp_path, **settings)
    assert not videos_of(source, "train") & videos_of(source, "val")
    assert np.bincount(source.splits["val"].labels).tolist() == [6, 6]
    assert "a group is never divided between splits: 4 of 20 groups held out, 20% of the images" in source.notes
    assert source.splits["val"].names == opened(tmp_path, **settings).splits["val"].names
    assert open_source(Data(path=str(tmp_path), **settings), 1).splits["val"].names != source.splits["val"].names
    shutil.copy(tmp_path / "a/a00_0.png", tmp_path / "a/a01_7.png")
    for seed in range(5):
        split = open_source(Data(path=str(tmp_path), **settings), seed).splits["val"].names
        assert len({"a/a00_0.png", "a/a01_7.png"} & {*split}) != 1, "a copy joins two groups"


def test_errors_for_a_data_group_that_does_not_match_or_cannot_be_divided(tmp_path: Path) -> None:
    write_videos(tmp_path)
    message = "30 of 60 images have no group by --data.group, e.g. 'b/b00_0.png'"
    with pytest.raises(SightlineError, match=message) as caught:
        opened(tmp_path, group="(?P<group>a[0-9]+)_")
    assert caught.value.cure
    with pytest.raises(SightlineError, match="no image can be held out"):
        opened(tmp_path, group="(?P<group>.)/")
    for wrong, why in (("(", "not a regular expression"), ("clip[0-9]+", r"needs \{group\}")):
        with pytest.raises(SightlineError, match=why):
            configured({"data.group": wrong})


def test_a_group_column_keeps_its_groups_in_one_split(tmp_path: Path) -> None:
    write_videos(tmp_path)
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    rows = [f"{name},{name.parts[0]},{name.stem[:3] if name.stem[0] == 'a' else ''}" for name in names]
    (tmp_path / "labels.csv").write_text("filename,label,group\n" + "\n".join(rows))
    source = opened(tmp_path / "labels.csv", val_fraction=0.2)
    (tmp_path / "labels.csv").write_text("filename,label,group\n" + "\n".join([*rows, f"{names[0]},a,other"]))
    val = [name for name in source.splits["val"].names if name.startswith("a/")]
    assert len(val) == 6 and len({name[:5] for name in val}) == 2
    assert np.bincount(source.splits["val"].labels).tolist() == [6, 6], (
        "an image with an empty cell is a separate group"
    )
    with pytest.raises(SightlineError, match="cannot be matched") as caught:
        opened(tmp_path / "labels.csv")
    assert "lines 2 and 62: 'a/a00_0.png' has the groups 'a00' and 'other'" in caught.value.why


def test_an_inner_split_of_train_replaces_the_validation_images(tmp_path: Path) -> None:
    write_videos(tmp_path)
    settings = {"group": "(?P<group>[^/]+)_[0-9]", "val_fraction": 0.2}
    whole = opened(tmp_path, **settings).splits
    inner = opened(tmp_path, **settings, inner_fraction=0.25)
    splits = inner.splits
    assert splits[OUTER].names == whole["val"].names, "the images on which the result is reported stay the same"
    assert sorted(splits["train"].names + splits["val"].names) == sorted(whole["train"].names)
    assert np.bincount(splits["val"].labels).tolist() == [6, 6], "stratified by class"
    assert not videos_of(inner, "train") & videos_of(inner, "val")
    note = "12 of 48 training images are the validation set; the images of val are not read (split outer)"
    assert any(note in line for line in inner.notes)
    data = Data(path=str(tmp_path), **settings, inner_fraction=0.25)
    first, second, third = (inner_split("", whole["train"], data, seed)[1].names for seed in (0, 0, 1))
    assert first == second == splits["val"].names and third != first, "chosen by the seed"


def test_groups_divided_by_given_splits_are_reported(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/{label}/x{n}_{split}.png" for split in ("train", "val") for label in "ab" for n in "12"))
    notes = opened(tmp_path, group="(?P<group>[ab]/x[0-9])").notes
    message = "warning: 4 groups with images in several splits, so that the scores may be too high (a/x1 in train and "
    assert any(note.startswith(message) for note in notes)


def test_groups_of_image_mask_pairs(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes", train=12, val=0) / "train"
    data = Data(path=str(scenes), palette="landcover", group="(?P<group>00[0-9][0-9])", val_fraction=0.25)
    assert len(open_pairs(data, 0)[0].splits["val"].names) == 3
    whole = open_pairs(data.model_copy(update={"group": "(?P<group>00[01])"}), 0)[0]
    assert {name[:3] for name in whole.splits["val"].names}.isdisjoint(name[:3] for name in whole.splits["train"].names)
    assert "a group is never divided between splits: 1 of 2 groups held out, 17% of the images" in whole.notes


# ----------------------------------------------------------------------------------------------------------- links


def test_a_file_with_several_links_is_used_once(tmp_path: Path) -> None:
    numbered(tmp_path, {"a": 4, "b": 4})
    os.link(tmp_path / "a/000.png", tmp_path / "a/hard.png")
    (tmp_path / "b/soft.png").symlink_to(tmp_path / "b/001.png")
    source = open_source(Data(path=str(tmp_path)), 0, hold_out=False)
    assert len(source.splits["all"].names) == 8
    assert "2 further links to the same image left out: a/hard.png is a/000.png, ..." in source.notes
    os.link(tmp_path / "a/001.png", tmp_path / "b/other.png")
    again = open_source(Data(path=str(tmp_path)), 0, hold_out=False)
    assert "b/other.png" in again.splits["all"].names, "a file with two labels is kept, and reported by the doctor"


def test_links_to_one_file_in_two_splits_are_a_leak(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", train=3, val=2)
    os.link(root / "train/class_0/1.png", root / "val/class_0/hard.png")
    data = Data(path=str(root))
    with pytest.raises(SightlineError, match="1 image is in several splits"):
        reject_leaks(open_source(data, 0), data, print)


def test_a_pair_with_several_links_is_used_once(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes", train=3, val=2)
    for ending in ("sat.jpg", "mask.png"):
        os.link(scenes / f"train/0000_{ending}", scenes / f"train/9999_{ending}")
    source, _ = open_pairs(Data(path=str(scenes), palette="landcover"), 0)
    assert len(source.splits["train"].names) == 3
    assert any(note.startswith("1 further link to the same image left out") for note in source.notes)


def test_files_with_equal_ends_are_compared_completely(tmp_path: Path) -> None:
    content = {"a/1.bmp": b"x" + bytes(9000), "a/2.bmp": b"y" + bytes(9000), "b/3.bmp": b"x" + bytes(9000)}
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    items = {"train": Items((*content,), None, lambda index, side=0: Image.new("RGB", (1, 1)), ("9001:0",) * 3)}
    assert copies_among(str(tmp_path), items, Data()) == [["a/1.bmp", "b/3.bmp"]]


def test_a_small_fraction_is_not_printed_as_zero(tmp_path: Path) -> None:
    numbered(tmp_path, {"a": 3, "b": 3})
    notes = opened(tmp_path, val_fraction=0.0004).notes
    assert any("2 of 6 images (at least one of each class)" in note for note in notes)
    notes = opened(tmp_path, val_fraction=0.0004, group=r"(?P<group>\d+)\.png").notes
    assert any("about 0.04% of the images" in note for note in notes)
