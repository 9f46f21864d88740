"""Decoded pairs: every pixel as in the files, one entry for the same files, all faults at once, sizes of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import SightlineError
from sightline.config import Data
from sightline.data.cache import cache_list
from sightline.data.loader import evaluation_batches, training_batches
from sightline.data.pair_cache import DecodedPairs, decode_pairs
from sightline.data.pairs import open_pairs

COLORS = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def decoded(folder: Path, split: str = "train", said: list[str] | None = None, **settings: object) -> DecodedPairs:
    data = Data.model_validate({"path": str(folder), "palette": "landcover", **settings})
    source, palette = open_pairs(data, 0)
    return decode_pairs(source, split, palette, data, (said if said is not None else []).append)


def test_pixels_and_masks_are_those_of_the_files(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    pairs = decoded(folder)
    assert pairs.images.shape == (8, 3, 32, 32) and pairs.labels.shape == (8, 32, 32)
    for number, name in enumerate(pairs.names):
        path = folder / name
        with Image.open(path) as image, Image.open(path.with_name(path.name.replace("_sat.jpg", "_mask.png"))) as mask:
            assert np.array_equal(pairs.images[number], np.asarray(image).transpose(2, 0, 1))
            colors = np.asarray(mask.convert("RGB"))
        for index, color in enumerate(COLORS):
            assert np.array_equal(pairs.labels[number] == index, (colors == color).all(2))
        assert np.array_equal(pairs.labels[number] == 255, (colors == 0).all(2))
        assert pairs.counts[number].tolist() == [int((pairs.labels[number] == index).sum()) for index in range(6)]


def test_the_same_files_are_decoded_once_and_a_changed_mask_anew(
    make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_scenes(tmp_path / "data")
    first, said = decoded(folder), []
    again = decoded(folder, said=said)
    assert not any("decoding" in line for line in said) and again.digest == first.digest
    assert any("with masks" in entry.source for entry in cache_list())
    mask = folder / "train" / "0001_mask.png"
    Image.new("RGB", (32, 32), (0, 255, 0)).save(mask)
    changed = decoded(folder, said=said)
    assert (
        any("decoding" in line for line in said) and changed.digest != first.digest and (changed.labels[1] == 3).all()
    )
    other = decoded(folder, merge={"forest": "rangeland"})
    assert "forest" not in other.classes and other.digest != changed.digest


def test_all_faults_of_a_split_are_named_together(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    Image.new("RGB", (20, 32), (0, 255, 255)).save(folder / "train" / "0001_mask.png")
    Image.new("RGB", (32, 32), (0, 255, 255)).save(folder / "train" / "0002_mask.png", format="JPEG")
    (folder / "train" / "0003_sat.jpg").write_bytes(b"no picture")
    with pytest.raises(SightlineError, match="3 of 8 pairs of train cannot be used") as caught:
        decoded(folder)
    for name in ("0001", "0002", "0003"):
        assert name in caught.value.why
    assert not cache_list() or all(str(folder) not in entry.source for entry in cache_list())


def test_pairs_of_different_sizes_keep_their_own(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", train=3, val=1)
    for name in ("0001_sat.jpg", "0001_mask.png"):
        with Image.open(folder / "train" / name) as image:
            larger = image.resize((40, 24), Image.Resampling.NEAREST)
        larger.save(folder / "train" / name)
    pairs = decoded(folder)
    assert pairs.images.shape == (3, 3, 32, 40) and pairs.sizes.tolist() == [[32, 32], [24, 40], [32, 32]]
    assert (pairs.labels[1, 24:] == 255).all() and (pairs.labels[0, :, 32:] == 255).all()
    batches = list(evaluation_batches(pairs, 8))
    assert [tuple(batch.images.shape[2:]) for batch in batches] == [(32, 32), (24, 40), (32, 32)]
    assert [batch.samples.tolist() for batch in batches] == [[0], [1], [2]]
    (batch,) = training_batches(pairs, 3, 0, 0)
    assert batch.labels is not None and batch.labels.shape == (3, 32, 40)


def test_masks_without_a_counted_pixel_are_left_out(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", train=3, val=1)
    Image.new("RGB", (32, 32)).save(folder / "train" / "0001_mask.png")
    said: list[str] = []
    pairs = decoded(folder, said=said)
    assert [name[-12:] for name in pairs.names] == ["0000_sat.jpg", "0002_sat.jpg"] and any(
        "0001" in line for line in said
    )
    Image.new("RGB", (32, 32)).save(folder / "train" / "0000_mask.png")
    Image.new("RGB", (32, 32)).save(folder / "train" / "0002_mask.png")
    with pytest.raises(SightlineError, match="no pixel counts"):
        decoded(folder)
