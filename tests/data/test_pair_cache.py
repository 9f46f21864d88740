"""Cache of image-mask pairs: equal pixels, reuse, all invalid pairs in one error, pairs of different sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import SightlineError
from sightline.config.schema import Data
from sightline.data.cache import cache_list
from sightline.data.loader import evaluation_batches, training_batches
from sightline.data.pair_cache import decode_all, decode_pairs
from sightline.data.sources.pairs import open_pairs
from sightline.data.types import Decoded

COLORS = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def decoded(folder: Path, split: str = "train", messages: list[str] | None = None, **settings: object) -> Decoded:
    data = Data.model_validate({"path": str(folder), "palette": "landcover", **settings})
    source, palette = open_pairs(data, 0)
    return decode_pairs(source, split, palette, data, (messages if messages is not None else []).append)


def test_pixels_and_masks_equal_those_in_the_files(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    pairs = decoded(folder)
    assert pairs.images.shape == (8, 3, 32, 32) and pairs.masks.shape == (8, 32, 32)
    for number, name in enumerate(pairs.names):
        path = folder / name
        with Image.open(path) as image, Image.open(path.with_name(path.name.replace("_sat.jpg", "_mask.png"))) as mask:
            assert np.array_equal(pairs.images[number], np.asarray(image).transpose(2, 0, 1))
            colors = np.asarray(mask.convert("RGB"))
        for index, color in enumerate(COLORS):
            assert np.array_equal(pairs.masks[number] == index, (colors == color).all(2))
        assert np.array_equal(pairs.masks[number] == 255, (colors == 0).all(2))
        assert pairs.counts[number].tolist() == [int((pairs.masks[number] == index).sum()) for index in range(6)]


def test_pairs_are_decoded_once_and_again_after_a_change(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    first, messages = decoded(folder), []
    again = decoded(folder, messages=messages)
    assert not any("decoding" in line for line in messages) and again.digest == first.digest
    assert any("with masks" in entry.source for entry in cache_list())
    mask = folder / "train" / "0001_mask.png"
    Image.new("RGB", (32, 32), (0, 255, 0)).save(mask)
    changed = decoded(folder, messages=messages)
    assert (
        any("decoding" in line for line in messages)
        and changed.digest != first.digest
        and (changed.masks[1] == 3).all()
    )
    other = decoded(folder, merge={"forest": "rangeland"})
    assert "forest" not in other.classes and other.digest != changed.digest


def test_all_invalid_pairs_of_a_split_are_in_one_error(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    Image.new("RGB", (20, 32), (0, 255, 255)).save(folder / "train" / "0001_mask.png")
    Image.new("RGB", (32, 32), (0, 255, 255)).save(folder / "train" / "0002_mask.png", format="JPEG")
    (folder / "train" / "0003_sat.jpg").write_bytes(b"not an image")
    with pytest.raises(SightlineError, match="3 of 8 pairs of train cannot be used") as caught:
        decoded(folder)
    for name in ("0001", "0002", "0003"):
        assert name in caught.value.why
    assert not cache_list() or all(str(folder) not in entry.source for entry in cache_list())


def test_of_invalid_pairs_with_one_cause_a_few_are_listed(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    with pytest.raises(SightlineError, match="8 of 8 pairs of train cannot be used") as caught:
        decoded(folder, palette="camvid")
    assert caught.value.why.count("_mask.png") == 5 and "and 3 more" in caught.value.why


def test_pairs_of_different_sizes_are_padded_and_batched_by_size(
    make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_scenes(tmp_path / "data", train=3, val=1)
    for name in ("0001_sat.jpg", "0001_mask.png"):
        with Image.open(folder / "train" / name) as image:
            larger = image.resize((40, 24), Image.Resampling.NEAREST)
        larger.save(folder / "train" / name)
    pairs = decoded(folder)
    assert pairs.images.shape == (3, 3, 32, 40) and pairs.sizes.tolist() == [[32, 32], [24, 40], [32, 32]]
    assert (pairs.masks[1, 24:] == 255).all() and (pairs.masks[0, :, 32:] == 255).all()
    batches = list(evaluation_batches(pairs, 8))
    assert [tuple(batch.images.shape[2:]) for batch in batches] == [(32, 32), (24, 40), (32, 32)]
    assert [batch.samples.tolist() for batch in batches] == [[0], [1], [2]]
    (batch,) = training_batches(pairs, 3, 0, 0)
    assert batch.labels is not None and batch.labels.shape == (3, 32, 40)


def test_training_pairs_without_a_labeled_pixel_are_left_out(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", train=3, val=1)
    Image.new("RGB", (32, 32)).save(folder / "train" / "0001_mask.png")
    messages: list[str] = []
    pairs = decoded(folder, messages=messages)
    assert [name[-12:] for name in pairs.names] == ["0000_sat.jpg", "0002_sat.jpg"] and any(
        "0001" in line for line in messages
    )
    Image.new("RGB", (32, 32)).save(folder / "train" / "0000_mask.png")
    Image.new("RGB", (32, 32)).save(folder / "train" / "0002_mask.png")
    with pytest.raises(SightlineError, match="no pixel of train is labeled"):
        decoded(folder)


def test_pairs_with_ignored_pixels_only_are_kept_in_validation_only(
    make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_scenes(tmp_path / "data", train=5, val=3)
    for name in ("train/0000", "train/0003", "validation/0901"):
        Image.new("RGB", (32, 32)).save(folder / f"{name}_mask.png")
    data = Data(path=str(folder), palette="landcover", cache_dir=str(tmp_path / "cache"))
    source, palette = open_pairs(data, 0)
    for messages in ([], []):  # decoded, and from the cache
        train, val = decode_all(source, palette, data, messages.append)
        assert train.names == tuple(f"train/000{number}_sat.jpg" for number in (1, 2, 4))
        assert len(val.names) == 3 and train.images.shape[0] == train.masks.shape[0] == 3
        assert isinstance(train.images, np.memmap)
        for row, name in enumerate(train.names):
            with Image.open(folder / name) as image:
                np.testing.assert_array_equal(train.images[row], np.asarray(image).transpose(2, 0, 1))
        note = "2 masks of train have only ignored pixels and are left out: train/0000_sat.jpg, train/0003_sat.jpg"
        assert note in messages and "1 mask of val has only ignored pixels: validation/0901_sat.jpg" in messages
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_max_pixels_above_the_limit_of_pillow(
    make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow raises an error at twice this number
    folder = make_scenes(tmp_path / "data", train=2, val=1, size=48)
    data = Data(path=str(folder), palette="landcover", cache_dir=str(tmp_path / "cache"), max_pixels=3000)
    train, _ = decode_all(*open_pairs(data, 0), data)
    assert train.images.shape == (2, 3, 48, 48)


@pytest.mark.filterwarnings("ignore:.*orrupt EXIF")
def test_damaged_exif_blocks_of_pairs_are_reported(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", train=3, val=1)
    path = folder / "train" / "0001_sat.jpg"
    Image.open(path).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    for messages in ([], []):  # decoded, and from the cache
        decoded(folder, "train", messages)
        (note,) = (line for line in messages if "EXIF" in line)
        assert note.startswith("1 of 3 images of train have a damaged EXIF block") and "0001_sat.jpg" in note
