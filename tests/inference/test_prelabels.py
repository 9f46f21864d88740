"""Predictions for annotation programs, and what these programs give back, are the same masks and labels."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import sightline
from annotation_toys import write_images
from sightline.config.schema import Config, Data
from sightline.data.annotations.outlines import shapes_of
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.errors import SightlineError
from sightline.inference import prelabels
from sightline.inference.inputs import PredictOptions
from sightline.inference.prelabels import Prelabel, coco_document, studio_document, write_prelabels

pytestmark = pytest.mark.usefixtures("no_reports")
CLASSES = ("background", "cat", "dog")


def toy_mask(seed: int) -> np.ndarray:
    """A mask with smooth regions of three classes, one of them with a hole."""
    random = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(random.random((3, 60, 80)), (0, 5, 5)).argmax(0).astype(np.uint8)
    mask[5:25, 5:25] = 1
    mask[10:15, 12:20] = 2
    return mask


def accepted(values: Any) -> Any:
    """Predictions as Label Studio exports them after they were accepted: as annotations."""
    if not isinstance(values, list):
        return values
    return [
        {"id": index, "data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}
        for index, task in enumerate(values)
    ]


@pytest.mark.parametrize("kind", ["coco", "labelstudio"])
def test_masks_that_are_imported_again_differ_only_at_borders(kind: str, tmp_path: Path) -> None:
    masks = {name: toy_mask(index) for index, name in enumerate(("a.png", "b.png", "c.png"))}
    write_images(tmp_path, (80, 60), tuple(masks))
    images = []
    for name, mask in masks.items():
        shapes = [shape for index in (1, 2) for shape, _ in shapes_of(mask, index, CLASSES[index])]
        assert any(shape.runs for shape in shapes) and any(shape.polygons for shape in shapes)
        images.append(Prelabel(name, mask.shape, [(shape, 0.5) for shape in shapes]))
    out = write_prelabels(tmp_path / "p.json", images, CLASSES, PredictOptions(format=kind))
    out.write_text(json.dumps(accepted(json.loads(out.read_text()))))
    source, palette = open_pairs(Data(path=str(tmp_path)), 0, hold_out=False)
    assert palette.classes == CLASSES
    items = source.splits["all"]
    for index, name in enumerate(items.names):
        assert items.read_mask is not None
        found, mask = items.read_mask(index), masks[name]
        edges = [np.diff(mask, axis=axis, prepend=255) != 0 for axis in (0, 1)]
        edges += [np.diff(mask, axis=axis, append=255) != 0 for axis in (0, 1)]
        assert not (found != mask)[~np.any(edges, axis=0)].any() and (found == mask).mean() > 0.97


def test_areas_in_coco_are_those_of_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    mask = toy_mask(0)
    shapes = [shape for shape, _ in shapes_of(mask, 1, "cat")]
    found = coco_document([Prelabel("a.png", mask.shape, [(shape, 0.5) for shape in shapes])], CLASSES)
    for item, shape in zip(found["annotations"], shapes, strict=True):
        coded = item["segmentation"]
        coded = (
            coco_mask.frPyObjects(coded, 60, 80) if isinstance(coded, list) else [coco_mask.frPyObjects(coded, 60, 80)]
        )
        area = int(coco_mask.area(coded)[0])
        assert area == item["area"] if shape.runs else abs(area - item["area"]) <= 4 + 0.05 * area
        assert np.abs(np.array(coco_mask.toBbox(coded)[0]) - item["bbox"]).max() <= 1.5
        assert item["category_id"] == 2 and item["score"] == 0.5


def test_choices_of_label_studio_keep_the_probabilities() -> None:
    image = Prelabel("a b.png", (3, 4), (), {"cat": 0.75, "dog": 0.5}, {"cat": 0.75, "dog": 0.5, "ant": 0.125})
    (task,) = studio_document([image, Prelabel("c.png", (3, 4))], CLASSES)[:1]
    assert task["data"] == {"image": "/data/local-files/?d=a%20b.png"}
    assert task["meta"] == {"probabilities": {"cat": 0.75, "dog": 0.5, "ant": 0.125}}
    (odd,) = studio_document([Prelabel(os.fsdecode(b"bad\xff.png"), (3, 4))], CLASSES)
    assert odd["data"]["image"].endswith("?d=bad%FF.png"), "a name that is not UTF-8"
    (result,) = task["predictions"][0]["result"]
    assert result["value"] == {"choices": ["cat", "dog"]} and result["score"] == 0.75


@pytest.fixture(scope="module")
def classifier(photos: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    settings = tiny | {"train.epochs": 1}
    return sightline.train(
        "small_cnn_scratch", photos, out=tmp_path_factory.mktemp("c") / "run", quiet=True, **settings
    )


@pytest.mark.parametrize("kind", ["coco", "labelstudio"])
def test_predictions_of_a_classifier_are_read_again(
    kind: str, classifier: sightline.Run, photos: Path, tmp_path: Path
) -> None:
    for label in range(4):
        for index, path in enumerate(sorted((photos / f"val/class_{label}").iterdir())[:2]):
            Image.open(path).save(tmp_path / f"{label}_{index}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    out = sightline.predict(classifier.path, tmp_path, out=tmp_path / "p.json", format=kind, quiet=True)
    rows = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    labels = {row[0]: row[1] for row in rows if row[1]}
    assert len(labels) == 8
    out.write_text(json.dumps(accepted(json.loads(out.read_text()))))
    (tmp_path / "p.csv").unlink()
    source = open_source(Data(path=str(tmp_path)), 0, hold_out=False)
    items = source.splits["all"]
    assert items.labels is not None and items.labels.ndim == 1
    assert dict(zip(items.names, [source.classes[index] for index in items.labels], strict=True)) == labels
    assert "images in the folder that are not in the annotations: 1 (broken.png)" in source.notes


@pytest.mark.parametrize("kind", ["coco", "labelstudio"])
def test_predictions_of_a_segmenter(
    kind: str, make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path: Path
) -> None:
    scenes = make_scenes(tmp_path / "scenes")
    run = sightline.train(toy(**{"train.epochs": 1}), scenes, out=tmp_path / "run", quiet=True)
    (tmp_path / "new").mkdir()
    for path in sorted((scenes / "validation").glob("*_sat.jpg"))[:2]:
        (tmp_path / "new" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "new/x.jpg").write_bytes(b"no image")
    out = sightline.predict(run.path, tmp_path / "new", out=tmp_path / "p.json", format=kind, quiet=True)
    sightline.predict(run.path, tmp_path / "new", out=tmp_path / "masks", quiet=True)
    (tmp_path / "new/p.json").write_text(json.dumps(accepted(json.loads(out.read_text()))))
    settings = {"path": str(tmp_path / "new"), "palette": "landcover"}
    source, palette = open_pairs(Data.model_validate(settings), 0, hold_out=False)
    items = source.splits["all"]
    for index, name in enumerate(items.names):
        assert items.read_mask is not None
        colors = np.asarray(Image.open(tmp_path / "masks" / name.replace("_sat.jpg", "_mask.png")))
        truth = (colors[..., None, :] == np.array(palette.colors)[: len(palette.classes)]).all(-1).argmax(-1)
        assert (items.read_mask(index) == truth).mean() > 0.7  # many small regions
    with pytest.raises(SightlineError, match="exists already"):
        sightline.predict(run.path, tmp_path / "new", out=out, format=kind)


def test_wrong_options_are_errors(classifier: sightline.Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="no format 'voc'"):
        sightline.predict(classifier.path, photos, out=tmp_path / "p.json", format="voc")
    with pytest.raises(SightlineError, match="this format is a JSON file"):
        sightline.predict(classifier.path, photos, out=tmp_path / "p.csv", format="coco")


def test_an_interruption_before_the_file_is_written_is_resumed(
    classifier: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table was complete, and repeating the command was an error: it exists already."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out, images = tmp_path / "p.json", photos / "val/class_0"
    for overwrite in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(prelabels, "image_size", stop)
            with pytest.raises(SightlineError, match="interrupted"):
                sightline.predict(classifier, images, out=out, format="coco", quiet=True, overwrite=overwrite)
        sightline.predict(classifier, images, out=out, format="coco", quiet=True)
        assert len(json.loads(out.read_text())["images"]) == len([*images.iterdir()])
        assert {path.name for path in tmp_path.iterdir()} == {"p.json", "p.csv"}
    with pytest.raises(SightlineError, match="--features has no effect"):
        sightline.predict(classifier, images, out=out, format="coco", features=True, overwrite=True)
