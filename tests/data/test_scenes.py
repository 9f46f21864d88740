"""Synthetic scenes: deterministic, with realistic class shares, and not separable by color alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.scenes import AGRICULTURE, CLASSES, COLORS, UNKNOWN, WATER, draw_scene, write_scenes

Scenes = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """40 scenes of 160x160: images uint8 [40, 3, h, w], masks uint8 [40, h, w]."""
    drawn = [draw_scene(0, index, 160) for index in range(1, 41)]
    return np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])


def test_a_scene_depends_only_on_seed_and_index() -> None:
    first, other = draw_scene(5, 3, 64), draw_scene(5, 4, 64)
    np.random.seed(1)
    again = draw_scene(5, 3, 64)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[0], draw_scene(6, 3, 64)[0])


def test_class_shares_are_similar_to_real_data(scenes: Scenes) -> None:
    shares = np.bincount(scenes[1].ravel(), minlength=len(CLASSES)) / scenes[1].size
    assert 0.42 < shares[AGRICULTURE] < 0.62
    assert 0.01 < shares[WATER] < 0.08
    assert 0 < shares[UNKNOWN] < 0.01
    others = np.delete(shares, [AGRICULTURE, WATER, UNKNOWN])
    assert (others > 0.03).all() and (others < 0.22).all()
    assert len(np.unique(shares.round(3))) == len(CLASSES)  # no two shares are equal


def test_classes_cannot_be_separated_by_color(scenes: Scenes) -> None:
    """On new scenes, the nearest mean color and the most frequent class of each of 4,096 colors have a low accuracy."""
    images, masks = scenes
    pixels = images.transpose(0, 2, 3, 1).reshape(2, -1, 3).astype(np.float32)
    labels = masks.reshape(2, -1)
    means = np.stack([pixels[0][labels[0] == label].mean(0) for label in range(len(CLASSES))])
    nearest = ((pixels[1][:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels[1]).mean() < 0.6
    bins = (pixels // 16).astype(int) @ [256, 16, 1]
    votes = np.zeros((4096, len(CLASSES)))
    np.add.at(votes, (bins[0], labels[0]), 1)
    assert (votes[bins[1]].argmax(1) == labels[1]).mean() < 0.7


def test_classes_differ_in_texture() -> None:
    """Trees and roofs vary from pixel to pixel, and water does not."""
    rough: dict[int, list[float]] = {label: [] for label in range(len(CLASSES))}
    for index in range(1, 31):
        image, mask = draw_scene(0, index, 96)
        steps = np.abs(np.diff(image.astype(float).mean(0), axis=1)) / image.mean()
        for label in range(len(CLASSES)):
            inside = (mask[:, 1:] == label) & (mask[:, :-1] == label)
            rough[label] += [float(steps[inside].mean())] if inside.sum() > 300 else []
    found = dict(zip(CLASSES, (float(np.mean(values or [0])) for values in rough.values()), strict=True))
    assert found["urban"] > 1.4 * max(found[name] for name in ("rangeland", "barren", "agriculture"))
    assert found["water"] < 0.8 * min(found[name] for name in ("rangeland", "forest", "agriculture", "urban"))


@pytest.mark.parametrize("size", [16, 33, 300])
def test_scenes_of_any_size_have_valid_images_and_masks(size: int) -> None:
    image, mask = draw_scene(1, 2, size)
    assert image.shape == (3, size, size) and image.dtype == np.uint8 and image.std() > 3
    assert mask.shape == (size, size) and mask.dtype == np.uint8 and mask.max() < len(CLASSES)


def test_files_have_the_layout_of_deepglobe(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 2, 1, size=48, seed=7)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    pairs = ["train/0001", "train/0002", "validation/9001"]
    assert names == [f"{stem}_{kind}" for stem in pairs for kind in ("mask.png", "sat.jpg")]
    for stem in pairs:
        image, mask = draw_scene(7, int(stem[-4:]), 48)
        with Image.open(folder / f"{stem}_mask.png") as file:
            assert file.mode == "RGB" and np.array_equal(np.asarray(file), COLORS[mask])
        with Image.open(folder / f"{stem}_sat.jpg") as file:
            assert file.format == "JPEG" and file.size == (48, 48)
            assert np.abs(np.asarray(file).astype(float) - image.transpose(1, 2, 0)).mean() < 12
    before = {name: (folder / name).read_bytes() for name in names}
    write_scenes(folder, 3, 1, size=48, seed=7)
    assert all((folder / name).read_bytes() == content for name, content in before.items())
