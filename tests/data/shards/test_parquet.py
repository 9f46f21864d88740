"""Data in Parquet, in the form of Hugging Face's `datasets`: `ArrowWriter._build_metadata` writes the key `huggingface`
of the schema, `Image.pa_type` is a struct of bytes and path, `push_to_hub` names files data/SPLIT-00000-of-00002."""

import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sightline
from config_toys import configured
from sightline.config.schema import Data
from sightline.data.label_arrays import label_texts
from sightline.data.shards import parquet
from sightline.data.sources.pairs import is_segmentation, open_pairs
from sightline.data.types import Source
from source_toys import open_error, opened

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
CLASS = {"names": ["dog", "cat"], "_type": "ClassLabel"}


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, numbers: range, cells: list[Any], feature: Any = CLASS, kind: Any = None, **more: Any) -> Path:
    """Write images and labels as `datasets` does, in row groups of three; returns the folder of the file's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    columns = {"image": pa.array(images, IMAGE), "label": pa.array(cells, kind), **more}
    features = {"image": {"_type": "Image"}, **({"label": feature} if feature else {})}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, row_group_size=3)
    return path.parent.parent


def texts(source: Source, split: str) -> list[str]:
    labels = source.splits[split].labels
    assert labels is not None
    return label_texts(labels, source.classes)


def open_pairs_error(folder: Path) -> str:
    with pytest.raises(sightline.SightlineError) as caught:
        open_pairs(Data(path=str(folder)), 0)
    return caught.value.what


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path = tmp_path / "set"
    for part in (0, 1):
        write(tmp_path / "data" / f"train-0000{part}-of-00002.parquet", range(8 * part, 8 * part + 8), [0, 1] * 4)
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", range(20, 24), [1, 1, 0, 0])
    return write(tmp_path / "data" / "test-00000-of-00001.parquet", range(30, 34), [-1] * 4)


def test_splits_classes_and_pixels_are_those_that_were_written(folder: Path) -> None:
    source = opened(folder)
    assert source.layout == "parquet" and source.classes == ("dog", "cat")
    assert {split: len(items.names) for split, items in source.splits.items()} == {"train": 16, "val": 4, "test": 4}
    assert texts(source, "train") == ["dog", "cat"] * 8 and texts(source, "val") == ["cat", "cat", "dog", "dog"]
    assert source.splits["test"].labels is None
    assert source.splits["train"].names[8] == "data/train-00001-of-00002/000000"
    with ThreadPoolExecutor(8) as pool:
        order = np.random.default_rng(0).permutation(np.repeat(np.arange(16), 5)).tolist()
        found = list(pool.map(lambda index: np.asarray(source.splits["train"].read(index)), order))
    assert all(np.array_equal(image, pixels(index)) for index, image in zip(order, found, strict=True))


def test_row_groups_are_read_when_needed_and_few_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, *args, **more: read.append(args[0]) or real(self, *args, **more)
    )
    train = opened(folder).splits["train"]
    assert not read
    for index in (0, 1, 2, 4, 5, 0):
        train.read(index)
    assert read == [0, 1]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 0)
    for index in (6, 0, 7):
        train.read(index)
    assert read == [0, 1, 2, 0, 2]


@pytest.mark.usefixtures("no_reports")
def test_a_classifier_is_trained_and_evaluated(folder: Path, tmp_path: Path, tiny: dict[str, object]) -> None:
    config = configured(tiny | {"train.epochs": 1, "data.size": 8, "report.samples": 0})
    run = sightline.train(config, folder, out=tmp_path / "run", quiet=True)
    assert (run.path / "predictions" / "val.csv").read_text().splitlines()[1].startswith("data/validation-00000-of")
    found = sightline.doctor(folder, out=tmp_path / "report")
    assert found is not None
    with pytest.raises(sightline.SightlineError, match="labels"):
        sightline.evaluate(run, split="test")


def test_other_forms_of_columns_and_files(tmp_path: Path) -> None:
    root = write(tmp_path / "a" / "train" / "0000.parquet", range(4), ["cat", "dog", "cat", "dog"], None)
    assert opened(root).classes == ("cat", "dog") and "train" in opened(root).splits
    alone = write(tmp_path / "b" / "x" / "all.parquet", range(4), [5, 7, 5, 7], None)
    assert opened(alone / "x" / "all.parquet").classes == ("5", "7") == opened(alone / "x").classes
    lists = {"feature": CLASS, "_type": "List"}
    sets = write(tmp_path / "c" / "data" / "train-0.parquet", range(4), [[0], [], [0, 1], [1]], lists)
    assert texts(opened(sets, hold_out=False), "train") == ["dog", "", "dog;cat", "cat"]
    fine = pa.array(["x", "y", "x", "y"])
    more = write(tmp_path / "d" / "data" / "train-0.parquet", range(4), [0, 0, 1, 1], fine=fine)
    assert opened(more, label_column="fine").classes == ("x", "y")


@pytest.mark.parametrize(
    ("cells", "feature", "settings", "parts"),
    [
        (
            [20.5, 21.25, 22.5, 20.5],
            None,
            {},
            ["looks like numbers", "'20.5', '21.25', '22.5'", "--data.labels number"],
        ),
        ([0, 1, None, 1], CLASS, {}, ["images without a label", "line 2", "1 of 4 rows"]),
        ([0, 1, 2, 1], CLASS, {}, ["numbers without a class name: 2"]),
        (
            [0, 1, 0, 1],
            CLASS,
            {"label_column": "kind"},
            ["unclear which columns", "image (struct<bytes", "--data.label_column"],
        ),
    ],
)
def test_invalid_labels(
    tmp_path: Path, cells: list[Any], feature: Any, settings: dict[str, str], parts: list[str]
) -> None:
    message = str(open_error(write(tmp_path / "data" / "train-0.parquet", range(4), cells, feature), **settings))
    assert all(part in message for part in parts), message


def test_invalid_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "train-0.parquet", range(4), [0, 1, 0, 1])
    extra = tmp_path / "data" / "more.parquet"
    extra.write_bytes(b"PAR1")
    assert "no split in their names: data/more.parquet" in open_error(folder).what
    extra.unlink()
    (tmp_path / "data" / "validation-0.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert open_error(folder).what == "cannot read this Parquet file" and "git lfs pull" in open_error(folder).cure
    (tmp_path / "data" / "validation-0.parquet").unlink()
    pq.write_table(pa.table({"label": [0]}), tmp_path / "data" / "train-0.parquet")
    assert "label (int64)" in open_error(folder).why
    images = pa.array([{"bytes": None, "path": "a.png"}] * 4, IMAGE)
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), tmp_path / "data" / "validation-0.parquet")
    write(tmp_path / "data" / "train-0.parquet", range(4), [0, 1, 0, 1], None)
    with pytest.raises(sightline.SightlineError, match="the cell has no bytes of an image"):
        opened(folder).splits["val"].read(0)


def test_other_names_that_begin_like_a_split_are_not_merged_with_it(tmp_path: Path) -> None:
    names = ("train-00000-of-00002", "train-00001-of-00002-3f5d4b2a1c", "train_small-00000", "test-0", "test_ood-0")
    for index, name in enumerate(names):
        write(tmp_path / "data" / f"{name}.parquet", range(4 * index, 4 * index + 4), [0, 1] * 2)
    source = opened(tmp_path)
    found = {split: {name.rpartition("/")[0] for name in items.names} for split, items in source.splits.items()}
    assert found["train"] | found["val"] == {f"data/{name}" for name in names[:2]} and found["test"] == {"data/test-0"}
    unused = "data/test_ood-0.parquet, data/train_small-00000.parquet"
    assert source.notes[0].startswith(f"found 3 Parquet files (not used: {unused}) with images in 'image'")
    (tmp_path / "data/test-0.parquet").rename(tmp_path / "data/test_2-0.parquet")
    assert "names of the test split: 'test_2', 'test_ood'" in open_error(tmp_path).what
    shutil.rmtree(tmp_path / "data")
    for index in range(3):
        write(tmp_path / "data" / f"train_{index}.parquet", range(4 * index, 4 * index + 4), [0, 1] * 2)
    assert sum(len(items.names) for items in opened(tmp_path).splits.values()) == 12


def test_files_that_may_be_versions_of_each_other_are_not_merged(tmp_path: Path) -> None:
    """Another export with fewer parts, a second one beside its folder, and subsets named by their percentage."""
    for first, second in (
        ("train", "train_50"),
        ("train-00000-of-00001", "train-00000-of-00002"),
        ("train-00000-of-00002-aa", "train-00000-of-00002-bb"),
        ("train", "data/train"),
        ("train/0000", "train/00000-of-00003"),
    ):
        folder = tmp_path / first.replace("/", "-") / second.replace("/", "-")
        for index, name in enumerate((first, second)):
            write(folder / f"{name}.parquet", range(4 * index, 4 * index + 4), [0, 1] * 2)
        error = open_error(folder)
        assert "several versions of it" in error.what and first in error.what and second in error.what
        assert "move all but one version away" in error.cure
    folder = tmp_path / "partly"
    write(folder / "train" / "0000.parquet", range(4), [0, 1] * 2)
    write(folder / "train" / "more.parquet", range(4, 8), [0, 1] * 2)
    write(folder / "test-00001-of-00003.parquet", range(8, 12), [0, 1] * 2)
    assert opened(folder).notes[0].startswith("found 3 Parquet files (only 1 of 3 files of 'test' are there) with")


def write_masks(path: Path, column: str = "label", count: int = 4) -> Path:
    """Write images, and masks of the ids 0 to 2, in row groups of three; returns the folder of the file's folder."""
    cells = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(pixels(number)[..., 0] % 3).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    return write(path, range(count), [0] * count, None, **{column: pa.array(cells, IMAGE)})


def test_masks_are_those_that_were_written(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "set" / "data" / "train-0.parquet")
    settings: dict[str, Any] = {"path": str(folder), "classes": ("a", "b", "c")}
    source, palette = open_pairs(Data.model_validate(settings), 0)
    assert palette.names == ("a", "b", "c") and {*source.splits} == {"train", "val"}
    for items in source.splits.values():
        for index, name in enumerate(items.names):
            number = int(name[-6:])
            assert items.read_mask and np.array_equal(items.read_mask(index), pixels(number)[..., 0] % 3)
            assert np.array_equal(np.asarray(items.read(index)), pixels(number))
    sightline.pack(folder, tmp_path / "shards", quiet=True, **{"data.classes": settings["classes"]})
    assert is_segmentation(Data(path=str(folder)))
    packed = open_pairs(Data(path=str(tmp_path / "shards")), 0)[0].splits
    for split, items in packed.items():
        for index, name in enumerate(items.names):
            assert items.read_mask and np.array_equal(items.read_mask(index), pixels(int(name[-6:]))[..., 0] % 3), split
    more = write_masks(tmp_path / "more" / "data" / "train-0.parquet", "instance_ids")
    found = open_pairs(Data.model_validate(settings | {"path": str(more), "label_column": "instance_ids"}), 0)[0]
    assert "masks in 'instance_ids'" in found.notes[0]
    assert all("instance_ids" in stamp for stamp in found.splits["train"].stamps), "the cache is of one column"


def test_a_palette_that_is_renumbered_in_another_file_is_an_error(tmp_path: Path) -> None:
    for split, colors in (("train", [0, 0, 0, 128, 0, 0]), ("val", [128, 0, 0, 0, 0, 0])):
        mask, file = Image.fromarray(np.full(pixels(0).shape[:2], int(split == "train"), np.uint8), "P"), io.BytesIO()
        mask.putpalette(colors)
        mask.save(file, "PNG")
        cells = pa.array([{"bytes": file.getvalue(), "path": None}] * 2, IMAGE)
        write(tmp_path / f"{split}-0.parquet", range(2), [0, 0], None, label=cells)
    data = Data(path=str(tmp_path), classes=("a", "b"))
    splits = open_pairs(data, 0)[0].splits
    assert splits["train"].read_mask and splits["val"].read_mask and splits["train"].read_mask(0).max() == 1
    with pytest.raises(sightline.SightlineError, match="renumbered the indices"):
        splits["val"].read_mask(0)


def test_invalid_masks(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "train-0.parquet", range(4), [0, 1, 0, 1])
    assert open_pairs_error(folder) == "there are no masks in these files"
    write_masks(tmp_path / "data" / "train-0.parquet")
    assert "if 'label' has masks, use a recipe for segmentation" in open_error(folder).cure
    with pytest.raises(sightline.SightlineError, match="contains class ids, up to 2"):
        open_pairs(Data(path=str(folder)), 0)
    masks = pa.array([{"bytes": png(0), "path": None}] * 4, IMAGE)
    write(tmp_path / "data" / "train-0.parquet", range(4), [0, 1, 0, 1], mask=masks, gt=masks)
    assert open_pairs_error(folder) == "it is unclear which columns have images and masks"
    assert not is_segmentation(Data(path=str(folder)))  # because the images have labels
    validation = write(tmp_path / "val" / "data" / "validation-0.parquet", range(4), [0, 1, 0, 1])
    assert open_error(validation).what == "there is no training split, only val"


def test_the_listing_of_copied_files_is_the_same(tmp_path: Path) -> None:
    """Times are no part of the digest by which repetitions and grids find other data."""
    folder = write(tmp_path / "data" / "train.parquet", range(12), [0, 1] * 6)
    before = opened(folder).listing_digest
    os.utime(tmp_path / "data" / "train.parquet", (1, 1))
    assert opened(folder).listing_digest == before
    write(tmp_path / "data" / "train.parquet", range(12), [1, 0] * 6)
    assert opened(folder).listing_digest != before
