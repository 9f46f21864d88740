"""Annotation files of five programs give the same masks and labels, and what is not whole is one clear error."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotation_toys import (
    CLASSES,
    HEIGHT,
    POLYGONS,
    WIDTH,
    WRITERS,
    brush_codes,
    coco_polygon,
    coco_values,
    cvat_text,
    far_from_borders,
    labelme_values,
    reference,
    studio_values,
    write_coco,
    write_cvat,
    write_images,
    write_labelme,
    write_studio,
    write_yolo,
)
from sightline.config.schema import Data
from sightline.data.annotations import recognize
from sightline.data.decode.masks import MaskFacts
from sightline.data.decode.palettes import IGNORE
from sightline.data.pair_cache import decode_pairs
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import is_segmentation, open_pairs
from sightline.data.types import Source
from sightline.errors import SightlineError


def labeled(path: Path, **settings: object) -> Source:
    """The source of the labels, without a held-out split."""
    return open_source(Data.model_validate({"path": str(path), **settings}), 0, hold_out=False)


def masked(path: Path, **settings: object) -> Source:
    return open_pairs(Data.model_validate({"path": str(path), **settings}), 0, hold_out=False)[0]


def masks(path: Path, **settings: object) -> dict[str, np.ndarray]:
    """The mask of each image by the name of its file."""
    found = {}
    for items in masked(path, **settings).splits.values():
        assert items.read_mask is not None
        found |= {name.rpartition("/")[2]: items.read_mask(index) for index, name in enumerate(items.names)}
    return found


def error(path: Path, masks: bool = True, **settings: object) -> str:
    """The error that opening `path` raises, as text; it must have `where` and `cure`."""
    with pytest.raises(SightlineError) as caught:
        masked(path, **settings) if masks else labeled(path, **settings)
    assert caught.value.where and caught.value.cure
    return str(caught.value)


def rle(size: list[int], counts: object) -> dict[str, object]:
    return {"size": size, "counts": counts}


def put(path: Path, values: Any) -> None:
    path.write_text(values if isinstance(values, str) else json.dumps(values))


@pytest.mark.parametrize("kind", WRITERS)
def test_all_formats_give_the_masks_of_pycocotools(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    source = masked(tmp_path)
    assert source.layout == kind and source.classes == ("background", *CLASSES)
    assert is_segmentation(Data(path=str(tmp_path))) and not is_segmentation(Data(path=str(tmp_path), labels="several"))
    assert "4 images, 6 shapes" in source.notes[0] and "pixels in no shape: 'background'" in source.notes
    assert set(source.splits) == ({"train", "val"} if kind == "yolo" else {"all"})
    found = masks(tmp_path)
    assert found.keys() == POLYGONS.keys()
    for name, mask in found.items():
        far = far_from_borders(name)  # the rule: only pixels within half a pixel of a border may differ
        assert far.mean() > 0.7 and (mask == reference(name))[far].all(), name
        assert masks(tmp_path, layout=kind)[name].tolist() == mask.tolist()


@pytest.mark.parametrize("kind", WRITERS)
def test_all_formats_give_label_sets_in_the_order_of_the_file(kind: str, tmp_path: Path) -> None:
    source = labeled(WRITERS[kind](tmp_path))
    found = {}
    for items in source.splits.values():
        assert items.labels is not None and items.labels.dtype == bool
        found |= {
            name.rpartition("/")[2]: labels.tolist() for name, labels in zip(items.names, items.labels, strict=True)
        }
    assert source.classes == CLASSES
    assert found == {name: [each in dict(shapes) for each in CLASSES] for name, shapes in POLYGONS.items()}
    assert "label sets: the labels of the objects in an image; 2 images with several" in "\n".join(source.notes)


@pytest.mark.parametrize("kind", WRITERS)
def test_decoding_reports_the_overlap_and_follows_the_setting(kind: str, tmp_path: Path) -> None:
    source = masked(WRITERS[kind](tmp_path), overlap="smaller")
    items = next(items for items in source.splits.values() if any(name.endswith("b.png") for name in items.names))
    index = next(i for i, name in enumerate(items.names) if name.endswith("b.png"))
    assert items.read_mask is not None
    facts = MaskFacts()
    assert (items.read_mask(index, facts)[12, 11:14] == 1).any() and 45 <= facts.overlap <= 55
    assert items.stamps != masked(tmp_path).splits[next(s for s, i in source.splits.items() if i is items)].stamps


def test_overlap_is_reported_when_masks_are_decoded(tmp_path: Path) -> None:
    data = Data(path=str(write_coco(tmp_path)))
    source, palette = open_pairs(data, 0, hold_out=False)
    for _ in range(2):  # the second time from the cache
        lines: list[str] = []
        decode_pairs(source, "all", palette, data, lines.append)
        assert "83 pixels of all (1.73%) are in shapes of different classes" in "\n".join(lines)


# COCO


def test_coco_run_lengths_of_pycocotools_are_exact(tmp_path: Path) -> None:
    write_coco(tmp_path, rle=True)  # as crowds, which are areas of their category
    assert all((mask == reference(name)).all() for name, mask in masks(tmp_path).items())
    values = coco_values(rle=True)
    for item in values["annotations"]:
        coded = np.array(coco_polygon(POLYGONS[[*POLYGONS][item["image_id"]]][0][1], HEIGHT, WIDTH))
        flat = coded.ravel("F").astype(int)
        edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        item["segmentation"]["counts"] = [0] * int(flat[0]) + np.diff(edges).tolist()
    put(tmp_path / "annotations/instances_default.json", values)
    assert masks(tmp_path)["c.png"].tolist() == reference("c.png").tolist()


def test_coco_of_one_category_per_image_gives_classes_and_boxes_are_not_used(tmp_path: Path) -> None:
    write_coco(tmp_path)
    values = coco_values()
    values["annotations"] = [values["annotations"][index] | {"segmentation": []} for index in (0, 3, 4)]
    del values["annotations"][1]["segmentation"]
    put(tmp_path / "annotations/instances_default.json", values)
    source = labeled(tmp_path)
    items = source.splits["all"]
    assert items.labels is not None and source.classes == ("cat",) and items.labels.tolist() == [0, 0, 0]
    assert "one class per image" in source.notes[1] and "3 x box or annotation without an area" in source.notes[0]
    assert "1 image without a label left out: d.png" in source.notes[2]
    assert not is_segmentation(Data(path=str(tmp_path)))
    assert "have no areas, which segmentation needs" in error(tmp_path)
    several = labeled(tmp_path, labels="several").splits["all"]
    assert several.labels is not None and several.labels.sum(1).tolist() == [1, 1, 1, 0]


def test_coco_splits_are_in_the_names_of_files_and_other_files_are_said(tmp_path: Path) -> None:
    names = [*POLYGONS]
    (tmp_path / "annotations").mkdir()
    for split, part in (("train2017", names[:3]), ("val2017", names[3:])):
        write_images(tmp_path / split, names=tuple(part))
        values = coco_values()
        values["images"] = [each for each in values["images"] if each["file_name"] in part]
        ids = {each["id"] for each in values["images"]}
        values["annotations"] = [each for each in values["annotations"] if each["image_id"] in ids]
        put(tmp_path / f"annotations/instances_{split}.json", values)
        put(tmp_path / f"annotations/person_keypoints_{split}.json", values)
    source = masked(tmp_path)
    assert {split: len(items.names) for split, items in source.splits.items()} == {"train": 3, "val": 1}
    assert source.splits["val"].names == ("val2017/d.png",)
    assert "not used: 2 (annotations/person_keypoints_train2017.json" in source.notes[1]
    (tmp_path / "annotations/instances_train2017.json").unlink()
    (tmp_path / "annotations/person_keypoints_train2017.json").unlink()
    with pytest.raises(SightlineError, match="no training split, only val"):
        open_pairs(Data(path=str(tmp_path)), 0)


def test_coco_files_beside_their_images_are_splits(tmp_path: Path) -> None:
    """The layout of exports of Roboflow; names of images may have backslashes."""
    for split in ("train", "valid"):
        write_images(tmp_path / split)
        values = coco_values()
        for image in values["images"]:
            image["file_name"] = f".\\{image['file_name']}"
        put(tmp_path / split / "_annotations.coco.json", values)
    source = masked(tmp_path, classes=("dog", "cat", "road"))
    assert {split: items.names[0] for split, items in source.splits.items()} == {
        "train": "train/a.png",
        "val": "valid/a.png",
    }
    assert source.classes == ("background", "dog", "cat", "road") and "not used" not in " ".join(source.notes)


def test_coco_lists_missing_images_and_images_that_it_does_not_name(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "images/a.png").unlink()
    write_images(tmp_path / "images", names=("z.png",))
    notes = masked(tmp_path).notes
    assert notes[-1].startswith("all 3 images with annotations of ")
    assert "images of the annotations that are not in the folder: 1 (a.png)" in notes
    assert "images in the folder that are not in the annotations: 1 (images/z.png)" in notes
    for name in ("b", "c", "d", "z"):
        (tmp_path / f"images/{name}.png").unlink()
    assert "no image of the COCO annotations is in the folder" in error(tmp_path)


def test_what_is_not_whole_is_one_error_with_the_path_of_each_key(tmp_path: Path) -> None:
    write_coco(tmp_path)
    values = coco_values()
    del values["images"][0]["width"], values["categories"][1]["name"]
    values["annotations"][2]["segmentation"] = "none"
    values["annotations"][3]["category_id"] = None
    put(tmp_path / "annotations/instances_default.json", values)
    text = error(tmp_path)
    assert "4 faults" in text
    assert "instances_default.json: images[0].width: missing" in text and "categories[1].name: missing" in text
    assert "annotations[2].segmentation: " in text and "annotations[3].category_id: " in text
    text = (tmp_path / "annotations/instances_default.json").read_text()
    put(tmp_path / "annotations/instances_default.json", text[: len(text) // 2])
    assert "instances_default.json, line 1, column " in error(tmp_path) and ": not valid JSON: " in error(tmp_path)
    del values["categories"]
    put(tmp_path / "annotations/instances_default.json", values)
    assert "instances_default.json: categories: missing" in error(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["images"][1].update(id=0), "the image id 0 appears twice"),
        (lambda v: v["annotations"][1].update(image_id=77), "no image or category has the id 77"),
        (lambda v: v["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "has 7 numbers"),
        (lambda v: v["annotations"][0].update(segmentation=[[90, 90, 99, 90, 95, 99]]), "outside of the image of 40"),
        (lambda v: v["annotations"][0].update(segmentation=rle([40, 30], [1200])), "[height, width] [30, 40]"),
        (lambda v: v["annotations"][0].update(segmentation=rle([30, 40], [1, 2])), "run lengths are not those"),
        (lambda v: v["annotations"][0].update(segmentation=rle([30, 40], "xyz~")), "run lengths are not those"),
        (lambda v: v["images"][0].update(width="40"), "images[0].width: Input should be a valid integer"),
        (lambda v: v["images"][0].update(file_name="../../etc/a.png"), "is a path outside of the data"),
        (lambda v: v["images"][0].update(file_name="/etc/a.png"), "is a path outside of the data"),
        (lambda v: v["images"][0].update(file_name="b.png"), "is the same image as at"),
        (lambda v: v["categories"][0].update(name="dog"), "the category 'dog' appears twice"),
    ],
)  # fmt: skip
def test_contradictions_in_coco_are_errors(change: Any, message: str, tmp_path: Path) -> None:
    write_coco(tmp_path)
    values = coco_values()
    change(values)
    put(tmp_path / "annotations/instances_default.json", values)
    assert message in error(tmp_path)


def test_a_coco_folder_is_not_taken_for_one_class(tmp_path: Path) -> None:
    """Before, `images` was the only class: "did you point at the class folder itself?"."""
    write_coco(tmp_path)
    with pytest.raises(SightlineError) as caught:  # one setting away
        open_source(Data(path=str(tmp_path), layout="classes"), 0)
    assert "annotations" in str(caught.value)
    assert open_source(Data(path=str(tmp_path)), 0).classes == CLASSES


# Pixels of no shape, images without shapes, sizes


def test_images_without_a_shape_are_left_out_unless_there_is_a_class_background(tmp_path: Path) -> None:
    write_coco(tmp_path)
    values = coco_values()
    del values["annotations"][-1]
    put(tmp_path / "annotations/instances_default.json", values)
    source = masked(tmp_path)
    assert source.splits["all"].names == ("images/a.png", "images/b.png", "images/c.png")
    (note,) = [note for note in source.notes if "without a shape" in note]
    assert "left out: images/d.png" in note and "--data.classes '[background, cat, dog, road]'" in note
    assert not masks(tmp_path, classes=("background", *CLASSES))["d.png"].any()
    values["categories"].append({"id": 99, "name": "Background"})
    put(tmp_path / "annotations/instances_default.json", values)
    source = masked(tmp_path)
    assert source.classes == (*CLASSES, "Background") and (masks(tmp_path)["d.png"] == 3).all()
    assert (masks(tmp_path, ignore=("Background",))["d.png"] == IGNORE).all()


def test_labels_map_to_the_palette_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path)
    colors = {"dog": (9, 9, 9), "cat": (1, 1, 1), "road": (2, 2, 2)}
    found = masks(tmp_path, colors=colors)["c.png"]
    assert {*np.unique(found)} == {1, IGNORE}  # no class for pixels in no shape
    text = error(tmp_path, colors={"dgo": (9, 9, 9), "cat": (1, 1, 1)})
    assert "not among the 2 classes: 2" in text and "'dog'; did you mean 'dgo'?" in text
    assert (masks(tmp_path, merge={"dog": "cat"})["a.png"] == 1).sum() > 350


def test_annotations_are_on_the_upright_image_and_other_sizes_are_errors(tmp_path: Path) -> None:
    write_coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 30 x 40, shown as 40 x 30
    for name in POLYGONS:
        (tmp_path / "images" / name).unlink()
        Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "images" / name, exif=exif)
    assert masks(tmp_path)["c.png"].shape == (HEIGHT, WIDTH)
    values = coco_values(box=False)
    for image in values["images"]:
        image.update(width=HEIGHT, height=HEIGHT)
    values["annotations"] = values["annotations"][:1]
    put(tmp_path / "annotations/instances_default.json", values)
    with pytest.raises(SightlineError, match="40 x 30 pixels, but 30 x 30 in the annotations"):
        masks(tmp_path)
    values["images"][0].update(width=HEIGHT, height=WIDTH)
    put(tmp_path / "annotations/instances_default.json", values)
    with pytest.raises(SightlineError, match="40 x 30") as caught:
        masks(tmp_path)
    assert "EXIF orientation" in caught.value.cure


# YOLO


def test_yolo_paths_of_other_programs(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(
        tmp_path / "data.yaml",
        f"path: /me/data\ntrain: ../images/train\nval: images/val\ntest: ../test/images\nnc: 3\nnames: {[*CLASSES]}\n",
    )
    assert {split: len(items.names) for split, items in masked(tmp_path).splits.items()} == {"train": 3, "val": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.1 0.1 0.5 0.5 0.1 0.5", "c.txt, line 2: there is no class 7; the 3 classes are 0 to 2"),
        ("1.5 0.1 0.1 0.5 0.5 0.1 0.5", "there is no class 1.5"),
        ("0 10 20 30 20 10 30", "coordinates are not shares of width and height"),
        ("0 0.1 0.1 0.5 0.5 0.9", "5 numbers after the class; a box has 4"),
        ("cat 0.1 0.1 0.5 0.5 0.1 0.5", "'cat 0.1 0.1 0.5 0.5 0.1 0.5' is not a list of numbers"),
        ("0 0.1 nan 0.5 0.5 0.1 0.5", "coordinates are not shares"),
    ],
)
def test_invalid_lines_of_yolo(line: str, message: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path) / "labels/val/c.txt"
    put(path, f"{path.read_text()}{line}\n\n1 0.5 0.5 0.2 0.2\n")
    text = error(tmp_path)
    assert message in text and "1 fault" in text
    put(path, "1 0.5 0.5 0.2 0.2\n")
    assert "1 x box without an area" in masked(tmp_path).notes[0]


# LabelMe


def test_absolute_paths_of_yolo_inside_the_data(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    before = masks(tmp_path)
    names = sorted(str(path) for path in (tmp_path / "images").rglob("*.png"))
    (tmp_path / "all.txt").write_text("\n".join(names))
    text = (tmp_path / "data.yaml").read_text()
    kept = [line for line in text.splitlines() if line.partition(":")[0] not in ("path", "train", "val", "test")]
    (tmp_path / "data.yaml").write_text("\n".join([*kept, f"train: {tmp_path / 'all.txt'}"]))
    found = masks(tmp_path)
    assert {*found} == {*before} and all((found[name] == before[name]).all() for name in found)


def test_yolo_without_text_files_says_so(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for path in tmp_path.rglob("labels/**/*.txt"):
        path.unlink()
    assert "no image has an annotation" in error(tmp_path)


def test_labelme_flags_are_classes(tmp_path: Path) -> None:
    """The form of examples/classification of LabelMe."""
    write_images(tmp_path)
    for index, name in enumerate(POLYGONS):
        flags = {"__ignore__": False, "cat": index < 2, "dog": index >= 2}
        values = {"flags": flags, "shapes": [], "lineColor": [0, 255, 0, 128], "imagePath": name, "imageData": None}
        put((tmp_path / name).with_suffix(".json"), values)
    source = labeled(tmp_path)
    assert source.classes == ("cat", "dog") and "one class per image: the labels of the images" in source.notes
    assert source.splits["all"].labels is not None and source.splits["all"].labels.tolist() == [0, 0, 1, 1]


def test_labelme_rectangles_and_masks_are_areas_and_lines_are_not(tmp_path: Path) -> None:
    """The forms of examples/primitives of LabelMe, and of its AI masks: a PNG in base64 between two points."""
    write_labelme(tmp_path)
    disk = Image.new("L", (5, 4), 255)
    disk.putpixel((0, 0), 0)
    file = io.BytesIO()
    disk.save(file, "PNG")
    code = base64.b64encode(file.getvalue()).decode()
    values = labelme_values("a.png")
    values["shapes"] = [
        {
            "label": "road",
            "points": [[12.0, 13.0], [2.0, 3.0]],
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
        },
        {"label": "dog", "points": [[20.0, 10.0], [24.0, 13.0]], "shape_type": "mask", "flags": {}, "mask": code},
        {"label": "cat", "points": [[18.0, 17.0], [16.0, 22.0]], "shape_type": "line", "flags": {}},
        {"label": "cat", "points": [[18.0, 17.0]], "shape_type": "point", "flags": {}},
    ]
    put(tmp_path / "a.json", values)
    mask = masks(tmp_path)["a.png"]
    assert (mask == 3).sum() == 100 and (mask[3:13, 2:12] == 3).all()
    assert (mask == 2).sum() == 19 and mask[10, 20] == 0 and mask[13, 24] == 2 and not (mask == 1).any()
    assert "2 x point, line or empty polygon" in masked(tmp_path).notes[0]
    values["shapes"][1]["points"] = [[20.0, 10.0], [25.0, 13.0]]
    values["shapes"][0]["shape_type"] = "ellipse"
    put(tmp_path / "a.json", values)
    assert "a.json: shapes[0].shape_type: Input should be 'polygon', 'rectangle'" in error(tmp_path)
    values["shapes"][0]["shape_type"] = "rectangle"
    put(tmp_path / "a.json", values)
    assert "a.json: shapes[1].mask has 5 x 4 pixels; by its points, 6 x 4" in error(tmp_path)


def test_a_circle_of_labelme_is_its_center_and_a_point_on_it(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    values = labelme_values("a.png")
    values["shapes"] = [{"label": "road", "points": [[12.0, 12.0], [12.0, 18.0]], "shape_type": "circle"}]
    put(tmp_path / "a.json", values)
    mask = masks(tmp_path)["a.png"]
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    distance = np.hypot(rows - 12, columns - 12)
    assert (mask[distance < 5.5] == 3).all() and not (mask[distance > 6.5] == 3).any()


def test_labelme_faults_of_all_files_are_one_error_and_splits_are_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_labelme(tmp_path / split)
    assert {split: len(items.names) for split, items in masked(tmp_path).splits.items()} == {"train": 4, "val": 4}
    for name in ("a", "b"):
        values = labelme_values(f"{name}.png")
        del values["imagePath"]
        put(tmp_path / f"train/{name}.json", values)
    text = error(tmp_path)
    assert "2 faults" in text and "train/a.json: imagePath: missing" in text and "train/b.json" in text


def test_an_annotated_folder_beside_those_of_the_splits_is_an_error(tmp_path: Path) -> None:
    for folder in ("train", "val", "extra"):
        write_labelme(tmp_path / folder)
    text = error(tmp_path)
    assert "4 of 12 annotated images have no split" in text and "extra/a.png (annotated in extra/a.json)" in text
    for path in (tmp_path / "val").iterdir():
        path.unlink()
    (tmp_path / "val").rmdir()
    assert [*masked(tmp_path).splits] == ["all"], "no stated validation or test split is lost"


# CVAT


def test_cvat_images_without_a_subset_beside_others_are_an_error(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    text = cvat_text()
    for name, subset in (("a", "Train"), ("b", "Validation"), ("c", "Test")):
        text = text.replace(f'name="{name}.png"', f'name="{name}.png" subset="{subset}"')
    put(tmp_path / "annotations.xml", text)
    message = error(tmp_path)
    assert "1 of 4 annotated images have no split" in message and "images/d.png (annotated in annotations" in message
    put(tmp_path / "annotations.xml", text.replace('name="d.png"', 'name="d.png" subset="Train"'))
    found = {split: len(items.names) for split, items in masked(tmp_path).splits.items()}
    assert found == {"train": 2, "val": 1, "test": 1}


def test_a_cvat_file_without_a_split_beside_others_is_an_error(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    (tmp_path / "annotations.xml").unlink()
    lines = cvat_text().splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("  <image ")]
    for file, start, end in zip(("train", "test", "extra"), starts, starts[1:], strict=False):
        put(tmp_path / f"{file}.xml", "\n".join([*lines[: starts[0]], *lines[start:end], "</annotations>"]))
    message = error(tmp_path)
    assert "1 of 3 annotated images have no split" in message and "images/c.png (annotated in extra.xml" in message
    (tmp_path / "extra.xml").rename(tmp_path / "val.xml")
    found = {split: len(items.names) for split, items in masked(tmp_path).splits.items()}
    assert found == {"train": 1, "val": 1, "test": 1}


def test_a_cvat_mask_of_its_documentation(tmp_path: Path) -> None:
    write_images(tmp_path, names=("a.png",))
    rle = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
    mask = f'<mask label="car" rle="{rle}" left="7" top="8" width="13" height="15" z_order="0">'
    image = f'<image id="0" name="a.png" width="40" height="30">\n{mask}\n</mask></image>'
    put(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")
    found = masks(tmp_path)["a.png"]
    runs = [int(each) for each in rle.split(",")]
    assert found.sum() == sum(runs[1::2]) and found[8, 7:20].tolist() == [0] * 3 + [1] * 5 + [0] * 5
    assert found[9, 7:20].tolist() == [0, 0] + [1] * 7 + [0] * 4 and not found[:8].any() and not found[23:].any()


def test_cvat_tags_are_labels_and_z_order_is_the_order(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    text = cvat_text()
    put(tmp_path / "annotations.xml", text.replace('z_order="0"', 'z_order="5"'))
    assert (masks(tmp_path)["b.png"] == 2).sum() > (masks(tmp_path)["b.png"] == 1).sum() * 20  # the dog is above
    tag = '<tag label="dog" source="manual"></tag><box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/>\n  </image>'
    put(tmp_path / "annotations.xml", text.replace("  </image>", tag))
    source = labeled(tmp_path)
    assert source.classes == ("dog",) and "one class per image: the labels of the images" in source.notes
    assert "4 x box" in source.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotations>", "<!DOCTYPE a [<!ENTITY x 'y'>]><annotations>", "document type declaration (<!DOCTYPE>)"),
        ('width="40" ', "", "annotations.xml, line 8: width: missing"),
        ("</annotations>", "", "not valid XML: no element found"),
        ("2.00,3.00;", "2.00;", "points: these are not numbers"),
        ("2.00,3.00;", "2.00,nan;", "points: these are not numbers"),
        ('<polygon label="road"', "<ellipse label='road'", "<ellipse> cannot be read"),
        ('name="d.png"', 'name="../../d.png"', "is a path outside of the data"),
        ("  <image", '<track id="0" label="cat"></track><image', "this is a track of a video; export the task as"),
    ],
)
def test_invalid_cvat_files(old: str, new: str, message: str, tmp_path: Path) -> None:
    write_cvat(tmp_path)
    text = cvat_text().replace(old, new)
    text = (
        text.replace("</polygon>\n  </image>\n</annotations>", "</ellipse></image></annotations>")
        if "ellipse" in new
        else text
    )
    put(tmp_path / "annotations.xml", text)
    assert message in error(tmp_path)


# Label Studio


def test_label_studio_brush_masks_are_exact_and_choices_are_labels(tmp_path: Path) -> None:
    write_studio(tmp_path)
    tasks = studio_values()
    for task, (name, shapes) in zip(tasks, POLYGONS.items(), strict=True):
        for result, (label, points) in zip(task["annotations"][0]["result"], shapes, strict=True):
            codes = brush_codes(coco_polygon(points, HEIGHT, WIDTH))
            result.update(type="brushlabels", value={"format": "rle", "rle": codes, "brushlabels": [label]})
        choice = {"choices": ["good" if name < "c" else "bad"]}
        task["annotations"][0]["result"].append({"type": "choices", "value": choice, "to_name": "image", "id": "x"})
        task["annotations"].insert(0, {"result": [], "was_cancelled": True})
    put(tmp_path / "project-1-at-2024-01-01.json", tasks)
    assert all((mask == reference(name)).all() for name, mask in masks(tmp_path).items())
    source = labeled(tmp_path)
    assert source.classes == ("bad", "good") and "one class per image: the labels of the images" in source.notes
    tasks[0]["annotations"][1]["result"][0]["value"]["rle"][6] ^= 255
    put(tmp_path / "project-1-at-2024-01-01.json", tasks)
    assert "[0].result[0].value.rle is not a brush mask of 40 x 30 pixels" in error(tmp_path)


def test_label_studio_tasks_without_annotations_and_addresses(tmp_path: Path) -> None:
    write_studio(tmp_path)
    tasks = studio_values()
    tasks[0]["annotations"] = []
    tasks[1]["data"] = {"image": "/data/local-files/?d=images/b.png", "note": "wet"}
    tasks[2]["data"] = {"picture": "https://example.com/some%20where/c.png?token=1"}
    put(tmp_path / "project-1-at-2024-01-01.json", tasks)
    assert masked(tmp_path).splits["all"].names == ("images/b.png", "images/c.png", "images/d.png")
    tasks[2]["data"] = {"text": "no image"}
    tasks[3]["annotations"][0]["result"][0].update(image_rotation=90)
    put(tmp_path / "project-1-at-2024-01-01.json", tasks)
    text = error(tmp_path)
    assert (
        "[2].data has no paths of images" in text
        and "[3].result[0]: an ellipse, several labels of a region, or a rotated" in text
    )


def test_json_min_of_label_studio_is_refused_with_the_missing_key(tmp_path: Path) -> None:
    write_images(tmp_path)
    task = {"image": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "choice": "cat", "annotator": 1, "annotation_id": 1}
    put(tmp_path / "min.json", [task])
    assert "min.json: [0].data: missing; export the project as JSON, not as JSON-MIN" in error(tmp_path, masks=False)


# Recognition


def test_several_formats_are_an_error_and_a_setting_chooses(tmp_path: Path) -> None:
    write_labelme(write_coco(tmp_path))
    text = error(tmp_path)
    assert "several formats" in text and "--data.layout labelme or --data.layout coco" in text
    assert masked(tmp_path, layout="labelme").layout == "labelme"


def test_a_chosen_format_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    text = error(tmp_path, layout="coco")
    assert "there are no COCO annotations" in text and "found: CVAT" in text


def test_other_json_and_xml_files_are_not_annotations(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / name)
    put(tmp_path / "doctor.json", {"images": {"train": 3}, "annotations": "none"})
    put(tmp_path / "list.json", [1, 2])
    put(tmp_path / "voc.xml", "<annotation><object/></annotation>")
    put(tmp_path / "recipe.yaml", "train:\n  epochs: 3\nmodel:\n  name: x\n")
    assert labeled(tmp_path).classes == ("cat", "dog")


def test_all_annotation_files_of_a_folder_are_read(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    text = (tmp_path / "annotations.xml").read_text()
    (tmp_path / "annotations.xml").unlink()
    for task in range(12):
        write_images(tmp_path / "images", names=(f"{task}.png",))
        image = text[text.index("  <image") : text.index("  <image", text.index("  <image") + 9)]
        image = image.replace("a.png", f"{task}.png")
        put(tmp_path / f"task-{task:02}.xml", f"{text[: text.index('  <image')]}{image}</annotations>")
    source = masked(tmp_path)
    assert {name for items in source.splits.values() for name in items.names} == {
        f"images/{task}.png" for task in range(12)
    }


def test_annotations_are_found_after_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path)
    for number in range(20):
        put(tmp_path / f"annotations/about-{number:02}.json", {"author": number})
    assert masked(tmp_path).layout == "coco"
    monkeypatch.setattr(recognize, "MOST", 10)
    assert recognize.kinds_in(str(tmp_path), complete=False) == {}, "the number of inspected files is limited"
    assert [*recognize.kinds_in(str(tmp_path), complete=True)] == ["coco"]


def test_images_in_several_folders_with_one_name_are_ambiguous(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_images(tmp_path / "more", names=("a.png",))
    assert "'a.png' matches several images: images/a.png, more/a.png" in error(tmp_path)
