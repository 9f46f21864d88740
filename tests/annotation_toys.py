"""The same annotated images in the formats of five annotation programs, written by hand from their documentation.

COCO: cocodataset.org/#format-data, with run lengths of pycocotools. YOLO: docs.ultralytics.com/datasets/segment.
LabelMe: examples/ of its repository. CVAT: docs.cvat.ai, XML annotation format 1.1. Label Studio: labelstud.io/guide,
task format; brush masks by the format of @thi.ng/rle-pack, which its converter writes.
"""

import json
import warnings
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 40, 30
CLASSES = ("cat", "dog", "road")
POLYGONS: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {
    "a.png": [("cat", [(2, 3), (20.5, 4), (18, 25), (5, 20)]), ("dog", [(12, 10), (38, 12), (30, 28)])],
    "b.png": [("dog", [(1, 1), (30, 1), (30, 29), (1, 29)]), ("cat", [(10, 10), (20, 10), (20, 20)])],
    "c.png": [("cat", [(5.5, 5.5), (35, 8.25), (22, 27)])],
    "d.png": [("road", [(0, 15), (40, 15), (40, 30), (0, 30)])],
}
"""The polygons of each image: label, and corners in pixels."""


def coco_polygon(points: np.ndarray | list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """A polygon as pycocotools draws it, bool [height, width]."""
    with warnings.catch_warnings():  # raised by pycocotools with NumPy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        runs = coco_mask.frPyObjects([np.asarray(points, float).ravel().tolist()], height, width)
        return coco_mask.decode(runs)[..., 0] > 0


def reference(name: str, values: tuple[str, ...] = ("background", *CLASSES)) -> np.ndarray:
    """The mask of an image as pycocotools draws it, uint8; later polygons are on top."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, points in POLYGONS[name]:
        mask[coco_polygon(points, HEIGHT, WIDTH)] = values.index(label)
    return mask


def far_from_borders(name: str, distance: float = 0.5) -> np.ndarray:
    """Whether each pixel's center is farther than this from all borders of the polygons, bool [HEIGHT, WIDTH]."""
    centers = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), -1)[..., None, :]
    far = np.ones((HEIGHT, WIDTH), bool)
    for _, points in POLYGONS[name]:
        start = np.array(points, float)
        edge = np.roll(start, -1, 0) - start
        along = np.clip(((centers - start) * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
        far &= (np.linalg.norm(centers - start - along[..., None] * edge, axis=-1) > distance).all(-1)
    return far


def write_images(folder: Path, size: tuple[int, int] = (WIDTH, HEIGHT), names: tuple[str, ...] = (*POLYGONS,)) -> Path:
    """Write the images; no two are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", size, (40 * index, 90, 30 + len(folder.name))).save(folder / name)
    return folder


def coco_values(rle: bool = False, box: bool = True) -> dict[str, Any]:
    """The content of a COCO file. rle: areas as compressed run lengths of pycocotools, as of crowds."""
    ids = {label: 10 * index + 1 for index, label in enumerate(CLASSES)}
    annotations = []
    for image, shapes in enumerate(POLYGONS.values()):
        for label, points in shapes:
            flat = [float(value) for point in points for value in point]
            coded = coco_mask.frPyObjects([flat], HEIGHT, WIDTH)[0]
            area = {"size": coded["size"], "counts": coded["counts"].decode()} if rle else [flat]
            about = {"id": len(annotations) + 1, "image_id": image, "category_id": ids[label], "iscrowd": int(rle)}
            annotations.append(about | {"segmentation": area, "bbox": coco_mask.toBbox(coded).tolist() if box else []})
    return {
        "info": {"year": 2017},
        "images": [
            {"id": index, "file_name": name, "width": WIDTH, "height": HEIGHT} for index, name in enumerate(POLYGONS)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": label, "supercategory": "thing"} for label, number in ids.items()],
    }


def write_coco(root: Path, rle: bool = False) -> Path:
    write_images(root / "images")
    (root / "annotations").mkdir()
    (root / "annotations/instances_default.json").write_text(json.dumps(coco_values(rle)))
    return root


def write_yolo(root: Path) -> Path:
    for split, names in (("train", ("a.png", "b.png", "d.png")), ("val", ("c.png",))):
        write_images(root / "images" / split, names=names)
        (root / "labels" / split).mkdir(parents=True)
        for name in names:
            lines = [
                " ".join([str(CLASSES.index(label)), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)])
                for label, points in POLYGONS[name]
            ]
            (root / "labels" / split / name).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    names = "".join(f"  {index}: {label}\n" for index, label in enumerate(CLASSES))
    (root / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\ntest:  # optional\nnames:\n{names}"
    )
    return root


def labelme_values(name: str) -> dict[str, Any]:
    shapes = [
        {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}
        for label, points in POLYGONS[name]
    ]
    about = {"imagePath": name, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "4.0.0", "flags": {}, "shapes": shapes, **about}


def write_labelme(root: Path) -> Path:
    write_images(root)
    for name in POLYGONS:
        (root / name).with_suffix(".json").write_text(json.dumps(labelme_values(name), indent=2))
    return root


def cvat_text() -> str:
    labels = "".join(f"<label><name>{label}</name><attributes></attributes></label>\n" for label in CLASSES)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines += [f"  <meta><task><id>4</id><name>toys</name><labels>{labels}</labels></task></meta>"]
    for index, (name, shapes) in enumerate(POLYGONS.items()):
        lines += [f'  <image id="{index}" name="{name}" width="{WIDTH}" height="{HEIGHT}">']
        for order, (label, points) in enumerate(shapes):
            text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
            lines += [f'    <polygon label="{label}" points="{text}" occluded="0" z_order="{order}">', "    </polygon>"]
        lines += ["  </image>"]
    return "\n".join([*lines, "</annotations>"])


def write_cvat(root: Path) -> Path:
    write_images(root / "images")
    (root / "annotations.xml").write_text(cvat_text())
    return root


def studio_values() -> list[dict[str, Any]]:
    tasks = []
    for index, (name, shapes) in enumerate(POLYGONS.items()):
        results = [
            {
                "id": f"r{number}",
                "type": "polygonlabels",
                "value": {"points": [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in points], "polygonlabels": [label]},
                "from_name": "label",
                "to_name": "image",
                "original_width": WIDTH,
                "original_height": HEIGHT,
                "image_rotation": 0,
            }
            for number, (label, points) in enumerate(shapes)
        ]
        annotation = {"id": index, "completed_by": 1, "result": results, "was_cancelled": False, "ground_truth": False}
        tasks.append({"id": index, "annotations": [annotation], "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"}})
    return tasks


def write_studio(root: Path) -> Path:
    write_images(root / "images")
    (root / "project-1-at-2024-01-01.json").write_text(json.dumps(studio_values()))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "label_studio": write_studio,
}


def brush_codes(mask: np.ndarray) -> list[int]:
    """A mask, bool [H, W], as Label Studio stores brush strokes: runs of up to 65,536 equal bytes of RGBA pixels."""
    flat = np.repeat(mask.ravel(), 4)
    bits = f"{flat.size:032b}" + f"{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for value, run in groupby(flat.tolist()):
        length = sum(1 for _ in run)
        if length == 4:  # runs and single values are both allowed
            bits += "0" + "00" + f"{length - 1:03b}" + f"{255 * value:08b}" * length
        else:
            bits += "1" + "11" + f"{length - 1:016b}" + f"{255 * value:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[index : index + 8], 2) for index in range(0, len(bits), 8)]
