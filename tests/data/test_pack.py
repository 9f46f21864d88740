"""`sightline pack`: unchanged images, deterministic shards, continuation after an interruption, errors."""

import errno
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from raster_toys import random_pixels, raster_folders, write_raster
from sightline import SightlineError
from sightline.__main__ import run
from sightline.config.schema import Data
from sightline.data.decode.palettes import to_dict
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.errors import ENVIRONMENT
from source_toys import put, written

SAMPLES = [*(("train", index) for index in range(8)), *(("val", index) for index in range(10, 14))]
SMALL = 0.05
"""Megabytes per shard: about twelve toy images."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tar", ".npz", ".json")}


def members(folder: Path, split: str = "train") -> list[dict[str, bytes]]:
    """The samples of a split in stored order: bytes by file extension."""
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as file:
            for info in file:
                key, _, ending = info.name.partition(".")
                found.setdefault((path.name, key), {})[ending] = file.extractfile(info).read()  # ty: ignore
    return list(found.values())


def test_every_image_is_packed_once_with_unchanged_bytes(photos: Path, tmp_path: Path) -> None:
    out = sightline.pack(photos, tmp_path / "out", shard_mb=SMALL, quiet=True)
    for split, count in (("train", 64), ("val", 16)):
        samples = members(out, split)
        described = [json.loads(sample["json"]) for sample in samples]
        assert len(samples) == count == len({one["name"] for one in described})
        for sample, one in zip(samples, described, strict=True):
            assert sample["png"] == (photos / one["name"]).read_bytes()
            assert one["class"] == Path(one["name"]).parent.name == f"class_{sample['cls'].decode()}"
        assert [one["number"] for one in described] != sorted(one["number"] for one in described)  # mixed
    assert len(list(out.glob("train-*.tar"))) > 3
    index = json.loads((out / "index.json").read_text())
    for shard in (shard for split in index["splits"].values() for shard in split["shards"]):
        assert hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]
        assert (out / shard["file"]).stat().st_size == shard["bytes"]


def test_shards_are_deterministic_and_the_seed_changes_the_order(photos: Path, tmp_path: Path) -> None:
    first, second, other = (
        contents(sightline.pack(photos, tmp_path / name, shard_mb=SMALL, seed=seed, quiet=True))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second and first["train-000000.tar"] != other["train-000000.tar"]


def test_interrupted_packing_continues_and_other_data_are_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = shutil.copytree(photos, tmp_path / "data"), tmp_path / "out"
    whole = sightline.pack(data, tmp_path / "whole", shard_mb=SMALL, quiet=True)
    add, added = tarfile.TarFile.addfile, []

    def full(archive: tarfile.TarFile, info: tarfile.TarInfo, content: io.BytesIO) -> None:
        added.append(info.size)
        if sum(added) > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(archive, info, content)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(SightlineError, match="cannot write") as caught:
        sightline.pack(data, out, shard_mb=SMALL, quiet=True)
    assert caught.value.status == ENVIRONMENT and "free some space" in caught.value.cure
    there = {path.name for path in out.glob("*.tar")}
    assert 0 < len(there) < len(list(whole.glob("*.tar")))
    with pytest.raises(SightlineError, match="incomplete"):
        open_source(Data(path=str(out)), 0)
    monkeypatch.setattr(tarfile.TarFile, "addfile", add)
    with pytest.raises(SightlineError, match="another packed data set") as caught:
        sightline.pack(data, out, shard_mb=2 * SMALL, quiet=True)
    assert "options" in caught.value.why and "--overwrite" in caught.value.cure
    sightline.pack(data, out, shard_mb=SMALL)
    assert f"train: continuing after {len(there)} shards" in capsys.readouterr().out
    assert contents(out) == contents(whole)
    sightline.pack(data, out, shard_mb=SMALL)
    assert "is packed already" in capsys.readouterr().out
    next((data / "train" / "class_0").iterdir()).unlink()
    with pytest.raises(SightlineError, match="another packed data set"):
        sightline.pack(data, out, shard_mb=SMALL, quiet=True)


def test_keys_are_numbers_and_any_name_is_kept_in_the_json(photos: Path, tmp_path: Path) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    names = ["new\nline.png", "a..%2f..\\x.png", "Übergröße 図.png", "two.dots.seg.png", "b\udcff.png"]
    for name in names:
        shutil.copy(photos / "train" / "class_0" / "0.png", data / "train" / "class_1" / name)
    out = sightline.pack(data, tmp_path / "out", quiet=True)
    with tarfile.open(out / "train-000000.tar") as file:
        keys = [info.name.partition(".")[0] for info in file]
    assert all(key.isdigit() for key in keys)
    found = {json.loads(sample["json"])["name"] for sample in members(out)}
    assert {f"train/class_1/{name}" for name in names} < found
    given = open_source(Data(path=str(out)), 0).splits["train"]
    assert given.names == open_source(Data(path=str(data)), 0).splits["train"].names


def test_all_unreadable_images_are_listed_and_no_shard_remains(photos: Path, tmp_path: Path) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    whole = (data / "train" / "class_0" / "1.png").read_bytes()
    for number, content in enumerate((b"", b"<html>", whole[:-40])):
        (data / "train" / f"class_{number}" / "2.png").write_bytes(content)
    with pytest.raises(SightlineError, match="3 of 64 images") as caught:
        sightline.pack(data, tmp_path / "out", shard_mb=SMALL, quiet=True)
    assert all(f"train/class_{number}/2.png" in caught.value.why for number in range(3))
    assert not list((tmp_path / "out").glob("*.*r"))
    out = sightline.pack(data, tmp_path / "out", shard_mb=SMALL, quiet=True, **{"data.on_bad_image": "skip"})
    names = open_source(Data(path=str(out)), 0).splits["train"].names
    assert len(names) == 61 and list(names) == sorted(names, key=list(names).index)
    assert not [name for name in names if name.endswith("/2.png") and "class_3" not in name]


def test_only_larger_images_are_resized_by_their_shorter_side(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=2, val=1)
    wide = np.random.default_rng(0).integers(0, 255, (40, 90, 3)).astype(np.uint8)
    Image.fromarray(wide).save(data / "train" / "class_0" / "wide.png")
    out = sightline.pack(data, tmp_path / "out", resize=20, quiet=True)
    for sample in members(out):
        name = json.loads(sample["json"])["name"]
        if name.endswith("wide.png"):
            assert "jpg" in sample and json.loads(sample["json"])["width"] == 45
        else:
            assert sample["png"] == (data / name).read_bytes()
    train = open_source(Data(path=str(out)), 0).splits["train"]
    assert train.read(train.names.index("train/class_0/wide.png")).size == (45, 20)


def test_pairs_keep_their_masks_and_palette(tmp_path: Path, make_scenes: Callable[..., Path]) -> None:
    data = make_scenes(tmp_path / "land")
    settings = {"data.palette": "landcover"}
    whole = sightline.pack(data, tmp_path / "whole", quiet=True, **settings)
    small = sightline.pack(data, tmp_path / "small", resize=24, quiet=True, **settings)
    plain, palette = open_pairs(Data(path=str(data), palette="landcover"), 0)
    for out, side in ((whole, 32), (small, 24)):
        source, known = open_pairs(Data(path=str(out)), 0)
        assert to_dict(known) == to_dict(palette) and source.classes == plain.classes
        for index, name in enumerate(source.splits["train"].names):
            assert plain.splits["train"].names[index] == name
            mask, image = source.splits["train"].read_mask(index), source.splits["train"].read(index)  # ty: ignore
            true = plain.splits["train"].read_mask(index)  # ty: ignore
            assert mask.shape == (side, side) == image.size and set(np.unique(mask)) <= set(np.unique(true))
            if side == 32:
                assert (mask == true).all()
            else:
                pixels = (np.arange(24) * 32 + 16) // 24
                assert (mask == true[pixels][:, pixels]).all()
    with pytest.raises(SightlineError, match="other palette settings"):
        open_pairs(Data(path=str(whole), palette="landcover", ignore=("water",)), 0)


def test_unlabeled_images_and_data_sets_of_libraries_can_be_packed(photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(6):
        shutil.copy(photos / "train" / "class_0" / f"{number}.png", flat / f"p{number}x.png")
    out = sightline.pack(flat, tmp_path / "out", quiet=True)
    source = open_source(Data(path=str(out)), 0)
    assert source.splits.keys() == {"train"} and source.splits["train"].labels is None
    digits = sightline.pack("sklearn:digits", tmp_path / "digits", quiet=True)
    made, given = open_source(Data(path=str(digits)), 0), open_source(Data(path="sklearn:digits"), 0)
    assert made.classes == given.classes
    for index in (0, 100):
        pixels = [np.asarray(source.splits["val"].read(index)) for source in (made, given)]
        assert (pixels[0] == pixels[1]).all()
    assert (made.splits["train"].labels == given.splits["train"].labels).all()


def test_groups_of_a_table_are_packed(tmp_path: Path) -> None:
    rows = [(f"{split}{index}", split, index % 2, f"g{index // 3}" * (index > 2)) for split, index in SAMPLES]
    put(tmp_path / "data", *(f"{name}.png" for name, *_ in rows))
    lines = [f"{name},{split},{'cat' if label else 'dog'},{group}" for name, split, label, group in rows]
    written(tmp_path / "data", "filename,split,label,group\n" + "\n".join(lines))
    out = sightline.pack(tmp_path / "data", tmp_path / "out", shard_mb=0.001, quiet=True)
    assert len(list(out.glob("train-*.npz"))) > 1
    found = open_source(Data(path=str(out)), 0).splits
    expected = open_source(Data(path=str(tmp_path / "data")), 0).splits
    for split in ("train", "val"):
        assert found[split].groups == expected[split].groups == tuple(row[3] for row in rows if row[1] == split)
    (tmp_path / "data/labels.csv").write_text((tmp_path / "data/labels.csv").read_text().replace("g1", "g7"))
    with pytest.raises(SightlineError, match="another packed data set"):
        sightline.pack(tmp_path / "data", out, shard_mb=0.001, quiet=True)
    for path in out.glob("*.npz"):  # as an earlier version has written them
        with np.load(path) as table:
            np.savez(path, **{name: table[name] for name in table.files if name != "groups"})
    index = json.loads((out / "index.json").read_text())
    for entry in (entry for part in index["splits"].values() for entry in part["shards"]):
        entry["table_sha256"] = hashlib.sha256((out / entry["file"]).with_suffix(".npz").read_bytes()).hexdigest()
    (out / "index.json").write_text(json.dumps(index))
    assert all(items.groups is None for items in open_source(Data(path=str(out)), 0).splits.values())


def test_the_command_and_its_errors(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", str(photos), str(tmp_path / "out"), "--data.val_fraction", "0.2", "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert run(["pack", str(tmp_path / "out"), str(tmp_path / "again")]) == 2
    assert "shards already" in capsys.readouterr().err
    assert run(["pack", str(photos), str(photos / "out")]) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert run(["pack", str(photos), str(tmp_path / "mine"), "--overwrite"]) == 2
    assert "this folder is not empty" in capsys.readouterr().err and (tmp_path / "mine" / "letter.txt").exists()
    assert run(["doctor", str(tmp_path / "out"), "--out", str(tmp_path / "doctor")]) in (0, 5)


def test_an_inner_split_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="no inner split") as caught:
        sightline.pack(photos, tmp_path / "out", quiet=True, **{"data.inner_fraction": 0.2})
    assert caught.value.cure == "leave out --data.inner_fraction" and not (tmp_path / "out").exists()


def test_images_with_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="8-bit images only"):
        sightline.pack(raster_folders(tmp_path / "data"), tmp_path / "shards", quiet=True)
    for folder in "ab":
        for index in range(3):
            pixels = random_pixels(index, (4, 20, 20), "uint8", 255)  # of which the fourth is tagged as transparency
            write_raster(tmp_path / "four" / folder / f"{index}.tif", pixels)
            write_raster(tmp_path / "named" / folder / f"{index}.tif", pixels, ("red", "green", "blue", "nir"))
    with pytest.raises(SightlineError, match="8-bit images only"):
        sightline.pack(tmp_path / "four", tmp_path / "shards", quiet=True, **{"data.channels": ["1", "2", "3"]})
    chosen = {"data.channels": ["red", "green", "blue"]}
    with pytest.raises(SightlineError, match="8-bit images only"):
        sightline.pack(tmp_path / "named", tmp_path / "shards", quiet=True, **chosen)
    (tmp_path / "tar").mkdir()
    for split in ("train", "val"):
        with tarfile.open(tmp_path / "tar" / f"{split}-000000.tar", "w") as tar:
            for index, path in enumerate(sorted((tmp_path / "data").rglob("*.tif"))):
                tar.add(path, f"{index:03}.tif")
                label = tarfile.TarInfo(f"{index:03}.cls")
                label.size = 1
                tar.addfile(label, io.BytesIO(b"0" if index < 6 else b"1"))
    source = open_source(Data(path=str(tmp_path / "tar")), 0)
    with pytest.raises(SightlineError) as caught:
        source.splits["train"].read(0)
    assert "12 channels" in caught.value.why and "only 8-bit images" in caught.value.why
