"""Commands on annotation files: doctor, train, evaluate on another format, and pack."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from annotation_toys import CLASSES, write_coco, write_cvat, write_images, write_yolo
from sightline.config.schema import Config, Data
from sightline.data.sources.pairs import open_pairs
from sightline.errors import SightlineError

pytestmark = pytest.mark.usefixtures("no_reports")
TOY = {"data.palette": "", "augment.window": [16, 16], "train.epochs": 1}


def test_the_doctor_checks_masks_drawn_from_annotations(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_coco(tmp_path / "data")
    Image.new("RGB", (7, 7)).save(tmp_path / "data/images/b.png")
    found = sightline.doctor(tmp_path / "data", out=tmp_path / "report", quiet=True)
    assert found.task == "segment" and found.classes == ("background", *CLASSES)
    texts = [f"{each.what} {group.note}" for each in found.findings for group in each.groups]
    assert any("the image has 7 x 7 pixels, but 40 x 30 in the annotations" in text for text in texts)


def test_a_segmenter_is_trained_on_yolo_evaluated_on_cvat_and_packed(
    toy: Callable[..., Config], tmp_path: Path
) -> None:
    for name, write in (("yolo", write_yolo), ("cvat", write_cvat)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    run = sightline.train(toy(**TOY), tmp_path / "yolo", out=tmp_path / "run", quiet=True)
    assert json.loads((run.path / "checkpoints/best/config.json").read_text())["classes"] == ["background", *CLASSES]
    found = sightline.evaluate(run.path, data=tmp_path / "cvat", quiet=True)
    assert found["images"] == 4 and found["split"] == "all"
    text = (tmp_path / "cvat/annotations.xml").read_text()
    (tmp_path / "cvat/annotations.xml").write_text(text.replace('"cat"', '"lynx"'))
    with pytest.raises(SightlineError, match="not among the 4 classes: 1"):
        sightline.evaluate(run.path, data=tmp_path / "cvat", quiet=True)


def test_drawn_masks_are_packed_into_shards(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_yolo(tmp_path / "data")
    sightline.pack(tmp_path / "data", tmp_path / "shards", quiet=True)
    (direct, _), (packed, _) = (
        open_pairs(Data(path=str(tmp_path / name)), 0, hold_out=False) for name in ("data", "shards")
    )
    assert packed.classes == direct.classes
    for split, items in direct.splits.items():
        other = packed.splits[split]
        order = [other.names.index(name) for name in items.names]
        assert items.read_mask is not None and other.read_mask is not None
        for index, number in enumerate(order):
            assert np.array_equal(items.read_mask(index), other.read_mask(number))


def test_classifying_needs_the_setting_for_a_folder_with_both(tmp_path: Path) -> None:
    """A class folder with an unrelated COCO file is one setting away."""
    for label in ("a", "b"):
        write_images(tmp_path / "data" / label)
    (tmp_path / "data/x.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(SightlineError, match="no image of the COCO annotations is in the folder") as caught:
        sightline.train("small_cnn_scratch", tmp_path / "data", out=tmp_path / "run", quiet=True)
    assert "--data.layout" in str(caught.value)
