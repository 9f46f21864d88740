from pathlib import Path

import numpy as np
import pytest

from sightline.config.schema import Data, group_pattern
from sightline.data.types import Decoded
from sightline.stats import groups as module
from sightline.stats.groups import Groups, found_groups, groups_of, groups_of_masks, read_groups, write_groups

RNG = np.random.default_rng(0)


def noise(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """Different images uint8 [N, 3, side, side]: a random color in each of 4 x 4 cells."""
    cells = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    return cells.repeat(side // 4, 2).repeat(side // 4, 3)


def film(frames: int, seed: int = 0) -> np.ndarray:
    """Images uint8 [N, 3, 16, 16] that change slowly: three fifths of a frame are in the next but one."""
    steps = noise(frames // 5 + 2, seed=seed).astype(float)
    place = np.arange(frames) / 5
    left = place.astype(int)
    share = (place - left)[:, None, None, None]
    return ((1 - share) * steps[left] + share * steps[left + 1]).astype(np.uint8)


def decoded(names: list[str], images: np.ndarray, **fields: object) -> Decoded:
    return Decoded(images, None, tuple(names), ("a",), "", 0, **fields)  # type: ignore[arg-type]


def test_numbered_images_of_different_things_are_not_grouped() -> None:
    for seed in range(5):
        names = [f"photo_{index}.png" for index in range(60)]
        assert found_groups(names, noise(60, seed=seed), None) is None
        labels = np.repeat(np.arange(6), 10)
        names = [f"{label}_{index}.png" for index, label in enumerate(labels)]
        assert found_groups(names, noise(60, seed=seed), labels) is None


def test_one_film_is_one_group_and_films_are_cut_where_they_change() -> None:
    one = found_groups([f"drive_{index:05}.png" for index in range(40)], film(40), None)
    assert one is not None and one.count == 1 and "film" in one.by
    both = np.concatenate([film(40), film(40, seed=9)])
    two = found_groups([f"drive_{index:05}.png" for index in range(80)], both, None)
    assert two is not None and 2 <= two.count <= 6 and (np.diff(two.ids) >= 0).all()
    assert two.ids[39] != two.ids[40]


def test_images_of_one_name_belong_together_if_they_are_similar() -> None:
    names = [f"patient{chr(97 + index // 4)}_{index % 4}.png" for index in range(80)]
    base = noise(20).repeat(4, 0).astype(int)
    similar = (base + np.random.default_rng(1).integers(-60, 60, base.shape)).clip(0, 255).astype(np.uint8)
    found = found_groups(names, similar, None)
    assert found is not None and found.count == 20 and (found.ids.reshape(20, 4) == found.ids[::4, None]).all()
    assert found_groups(names, noise(80), None) is None


def test_tiles_of_a_scene() -> None:
    names = [f"scene{letter}_{row}_{column}.png" for letter in "abcde" for row in range(4) for column in range(3)]
    base = noise(5).repeat(12, 0).astype(int)
    tiles = (base + np.random.default_rng(1).integers(-60, 60, base.shape)).clip(0, 255).astype(np.uint8)
    found = found_groups(names, tiles, None)
    assert found is not None and found.count == 5 and "tiles" in found.by
    assert found_groups(names, noise(60), None) is None


def test_near_copies_join_groups() -> None:
    images = noise(60, side=32)
    images[30:] = images[:30]
    found = found_groups([f"{name}.png" for name in RNG.permutation(10**6)[:60]], images, None)
    assert found is not None and found.count == 30 and found.by == "near copies"
    images = noise(1000, side=32)
    images[1] = images[0]
    few = found_groups([f"{name}x.png" for name in range(1000)], images, None)
    assert few is None, "one copy of 1,000 images does not matter"


def test_given_groups_have_precedence_and_none_switches_groups_off() -> None:
    names, images = [f"drive_{index:05}.png" for index in range(40)], film(40)
    assert groups_of(decoded(names, images), Data(group="none")) is None
    by = groups_of(decoded(names, images), Data(group="(?P<group>_000)"))
    assert by is not None and by.by == "data.group" and by.count == 1
    by = groups_of(decoded(names, images), Data(group="{group}_*"))
    assert by is not None and by.count == 1 and by.sentence(1).endswith("fewer than 10, so no interval can be given")
    column = groups_of(decoded(names, images, groups=("a",) * 20 + ("b",) * 19 + ("",)), Data())
    assert column is not None and column.count == 3 and column.by == "the column `group`"
    alone = groups_of(decoded(names, images, groups=tuple(names)), Data())
    assert alone is None


@pytest.mark.parametrize(
    ("template", "path", "group"),
    [
        ("{group}_*", "val/0001TP_006690.jpg", "0001TP"),
        ("{group}_*_*", "a/clip_1_2.png", "clip"),
        ("{group}/*", "cats/3.png", "cats"),
        ("s-{group}.*", "s-12.x.png", "12"),
        ("(?P<group>[a-z]+)", "12ab", "ab"),
    ],
)
def test_templates(template: str, path: str, group: str) -> None:
    match = group_pattern(template).search(path)
    assert match and match["group"] == group


def test_masks_are_grouped_by_name_and_classes() -> None:
    names = [f"drive_{index:03}_mask.png" for index in range(40)]
    place = np.linspace(0, 1, 40)[:, None]
    pixels = (1000 * np.concatenate([place, 1 - place], 1)).astype(np.int64)
    found = groups_of_masks(names, pixels, Data())
    assert found is not None and found.count < 5
    assert groups_of_masks(names, RNG.permutation(pixels), Data()) is None
    assert groups_of_masks(names, pixels, Data(group="none")) is None


def test_groups_of_a_run_are_written_and_read(tmp_path: Path) -> None:
    names = [f"drive_{index:05}.png" for index in range(40)] + ["other.png"]
    split = decoded(names, np.concatenate([film(40), noise(1, seed=3)]))
    written = write_groups(tmp_path, "val", split, Data(group="(?P<group>drive)|x"))
    found = read_groups(tmp_path, names)
    assert written and found and found.by == "data.group" and (found.ids == written.ids).all()
    reordered = read_groups(tmp_path, names[::-1])
    assert reordered and reordered.count == 2
    module.groups_file(tmp_path, "val").write_text("{}", encoding="utf-8")
    assert read_groups(tmp_path, names) is None
    assert write_groups(tmp_path, "val", split, Data(group="none")) is None
    assert not module.groups_file(tmp_path, "val").exists()


@pytest.mark.parametrize(("count", "wide"), [(10, True), (19, True), (20, False)])
def test_an_interval_over_few_groups_is_one_of_at_least_95_percent(count: int, wide: bool) -> None:
    sentence = Groups(np.arange(count), "data.group").sentence(count)
    assert sentence.endswith("the interval is one of at least 95%") == wide


def test_images_named_like_training_images_are_counted_and_said(tmp_path: Path) -> None:
    names = [f"val/{name}_{number:04}.png" for name in ("street", "park") for number in range(0, 60, 2)]
    images = np.concatenate([film(60, seed)[::2] for seed in (0, 1)])
    train = [f"train/street_{number:04}.png" for number in range(1, 60, 2)]
    split = decoded(names, images)
    for trained, shared in ((train, 30), (["train/0001.png", "train/other_1.png"], 0)):
        groups = write_groups(tmp_path, "val", split, Data(), trained)
        assert groups is not None and groups.shared == shared
        assert ("30 of them are named like training images" in groups.sentence(9)) == bool(shared)
        again = read_groups(tmp_path, names)
        assert again is not None and again.shared == shared
    copies = decoded([f"val/photo_{row:04}.png" for row in range(40)], noise(20).repeat(2, 0))
    near = write_groups(tmp_path, "val", copies, Data(), ["train/photo_0040.png"])
    assert near is not None and near.by == "near copies" and near.shared == 0, "their names say nothing"
    stated = write_groups(tmp_path, "val", split, Data(group="{group}_*"), train)
    assert stated is not None and stated.shared == 0, "the user decides what is a group"
