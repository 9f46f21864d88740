"""Write the fixtures of tests/data/annotations/test_other_programs.py with the libraries of annotation programs.

    python -m venv writers && writers/bin/pip install datumaro supervision labelme label-studio-sdk datasets
    writers/bin/python benchmarks/annotation_writers.py            # into tests/fixtures/annotations

It runs in a virtual environment of these packages and does not import Sightline. A folder LIBRARY-FORMAT has the data
in `data/` and what the library itself reads from them in `expected.npz`: names, splits, labels (joined by ";"), classes
and writer; and for masks: masks uint8 [N, H, W] (0: no shape), and near, bool [N, H, W]: pixels whose centers are so
close to the border of a polygon that rasterizers differ. That is half a pixel, and half the diagonal of a pixel more
for libraries that take coordinates for centers of pixels and draw the border too (all but datumaro).
"""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import datumaro as dm
import numpy as np
import shapely
import supervision as sv
from datumaro.components.media import Image as DatumaroImage
from datumaro.util import mask_tools
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import AnnotationValue, TaskValue
from labelme import LabelFile
from labelme.utils import img_arr_to_b64, shapes_to_label
from PIL import Image, ImageDraw

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "annotations"
WIDTH, HEIGHT = 48, 32
CLASSES = ("cat", "dog", "old road")
Points = list[tuple[float, float]]
POLYGONS: dict[str, list[tuple[str, Points]]] = {
    "train/a.png": [("cat", [(2, 3), (22.5, 4.25), (18, 25), (5, 20)]), ("dog", [(14, 10), (44, 12), (30, 28)])],
    "train/b.png": [("dog", [(1, 1), (40, 2), (42.75, 29), (3, 28)]), ("cat", [(10, 10), (30, 10), (30, 22)])],
    "train/c d.png": [("cat", [(5.5, 5.5), (35, 8.25), (22, 27)])],
    "train/e.png": [("old road", [(0, 15.5), (48, 12), (48, 32), (0, 32)])],
    "val/f.png": [("dog", [(20, 3), (45, 16), (20.25, 30), (30, 16)]), ("old road", [(1, 1), (15, 1), (8, 30)])],
    "val/g.png": [("cat", [(30, 2), (46, 30), (12, 30)])],
}
"""The polygons of each image, later ones on top."""
RINGS = {"train/c d.png": ("dog", (28, 4, 45, 21)), "val/g.png": ("old road", (2, 2, 19, 19))}
"""Masks with a hole, as (class, box of an ellipse), on top of the polygons."""
NEAR_CORNERS, NEAR_CENTERS = 0.5, 0.5 + 0.5**0.5
Arrays = dict[str, np.ndarray]


def picture(name: str) -> Image.Image:
    """Blocks of random colors; no two images are the same."""
    random = np.random.default_rng([*POLYGONS].index(name))
    blocks = random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))


def save_pictures(root: Path, named: Callable[[str], str] = lambda name: name) -> None:
    for name in POLYGONS:
        path = root / named(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(name).save(path, optimize=True)


def ring(name: str) -> np.ndarray:
    """The pixels of the ring of an image, bool [HEIGHT, WIDTH]."""
    image, box = Image.new("1", (WIDTH, HEIGHT)), RINGS[name][1]
    ImageDraw.Draw(image).ellipse(box, fill=1)
    ImageDraw.Draw(image).ellipse((box[0] + 5, box[1] + 5, box[2] - 5, box[3] - 5), fill=0)
    return np.array(image)


def filled(points: Points) -> np.ndarray:
    """A polygon as Pillow draws it, bool [HEIGHT, WIDTH]."""
    image = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon(points, fill=1, outline=1)
    return np.array(image)


def near(polygons: list[np.ndarray], distance: float) -> np.ndarray:
    """Whether the center of a pixel is at most so far from the border of a polygon, bool [HEIGHT, WIDTH]."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    found = np.zeros((HEIGHT, WIDTH), bool)
    for corners in polygons:
        border = shapely.LinearRing(np.asarray(corners, float).reshape(-1, 2))
        found |= shapely.distance(shapely.points(x, y), border) <= distance
    return found


def drawn(parts: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """A class mask of masks, later ones on top."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, part in parts:
        mask[part > 0] = 1 + CLASSES.index(label)
    return mask


def labels_of(name: str, rings: bool = True) -> list[str]:
    """The classes of the objects in an image, in order, each once."""
    found = {label for label, _ in POLYGONS[name]}
    if rings and name in RINGS:
        found.add(RINGS[name][0])
    return sorted(found, key=CLASSES.index)


def save(root: Path, library: str, labels: dict[str, list[str]], arrays: dict[str, Arrays] | None, split: bool) -> None:
    """Write expected.npz. labels, arrays: by name of image. split: whether the data have splits."""
    expected: dict[str, Any] = {"names": [*labels], "labels": [";".join(each) for each in labels.values()]}
    expected |= {"splits": [name.split("/")[0] if split else "all" for name in labels]}
    expected |= {"classes": CLASSES, "writer": f"{library} {version(library)}"}
    for key in ("masks", "near") if arrays else ():
        expected[key] = np.stack([(arrays or {})[name][key] for name in labels])
    np.savez_compressed(root / "expected.npz", **expected)


# datumaro


def items(rings: bool, boxes: bool) -> list[dm.DatasetItem]:
    found = []
    for name, shapes in POLYGONS.items():
        drawings: list[Any] = []
        for order, (label, points) in enumerate(shapes):
            corners, number = np.array(points, float), CLASSES.index(label)
            (left, top), (right, bottom) = corners.min(0), corners.max(0)
            box = dm.Bbox(left, top, right - left, bottom - top, label=number, id=order + 1, group=order + 1)
            polygon = dm.Polygon(corners.ravel().tolist(), label=number, z_order=order, id=order + 1, group=order + 1)
            drawings.append(box if boxes else polygon)
        if rings and name in RINGS:
            label = CLASSES.index(RINGS[name][0])
            drawings.append(dm.Mask(ring(name), label=label, z_order=9, id=9, group=9))
        split, file = name.split("/")
        media = DatumaroImage.from_numpy(np.asarray(picture(name))[..., ::-1].copy())
        found.append(dm.DatasetItem(id=Path(file).stem, subset=split, media=media, annotations=drawings))
    return found


def by_datumaro(root: Path, kind: str, boxes: bool = False) -> None:
    categories = [*CLASSES]
    dm.Dataset.from_iterable(items(not boxes, boxes), categories=categories).export(
        str(root / "data"), kind, save_media=True, image_ext=".png"
    )
    if boxes:
        save(root, "datumaro", {name: labels_of(name, rings=False) for name in POLYGONS}, None, True)
        return
    arrays = {}
    for item in dm.Dataset.import_from(str(root / "data"), kind.removesuffix("_instances")):
        parts, polygons = [], []
        for each in sorted(item.annotations, key=lambda one: one.z_order if kind == "cvat" else one.id):
            if isinstance(each, dm.Polygon):
                polygons.append(np.array(each.points))
                parts.append((CLASSES[each.label], mask_tools.rles_to_mask([each.points], WIDTH, HEIGHT)))
            elif isinstance(each, dm.Mask):
                parts.append((CLASSES[each.label], each.image))
        name = f"{item.subset}/{Path(item.id).name}.png"
        arrays[name] = {"masks": drawn(parts), "near": near(polygons, NEAR_CORNERS)}
    save(root, "datumaro", {name: labels_of(name) for name in POLYGONS}, arrays, True)


def datumaro_coco(root: Path) -> None:
    by_datumaro(root, "coco_instances")


def datumaro_cvat(root: Path) -> None:
    by_datumaro(root, "cvat")


def datumaro_yolo(root: Path) -> None:
    by_datumaro(root, "yolo_ultralytics", boxes=True)


# supervision: its polygons are contours of masks


def detections(name: str, rings: bool) -> sv.Detections:
    masks = [(label, filled(points)) for label, points in POLYGONS[name]]
    if rings and name in RINGS:
        masks.append((RINGS[name][0], ring(name)))
    stack = np.stack([mask for _, mask in masks])
    numbers = np.array([CLASSES.index(label) for label, _ in masks])
    return sv.Detections(xyxy=sv.mask_to_xyxy(stack), mask=stack, class_id=numbers)


def by_supervision(root: Path, kind: str) -> None:
    source, rings, arrays = root / "source", kind == "coco", {}
    save_pictures(source)
    for split in ("train", "val"):
        names = [name for name in POLYGONS if name.startswith(split)]
        paths = {str(source / name): name for name in names}
        found = sv.DetectionDataset(
            classes=[*CLASSES],
            images=[*paths],
            annotations={path: detections(name, rings) for path, name in paths.items()},
        )
        if kind == "coco":
            folder = str(root / "data" / split)
            found.as_coco(folder, f"{folder}/_annotations.coco.json")
            read = sv.DetectionDataset.from_coco(folder, f"{folder}/_annotations.coco.json", force_masks=True)
        elif kind == "yolo":
            places = [str(root / "data" / part / split) for part in ("images", "labels")]
            found.as_yolo(*places, str(root / "data" / "data.yaml"))
            read = sv.DetectionDataset.from_yolo(*places, str(root / "data" / "data.yaml"), force_masks=True)
        else:
            folder = str(root / "data" / split)
            found.as_labelme(folder, folder)
            read = sv.DetectionDataset.from_labelme(folder, folder, force_masks=True)
        for path, _, each in read:
            parts = [(read.classes[number], mask) for number, mask in zip(each.class_id, each.mask, strict=True)]
            contours = [
                c
                for mask in each.mask
                if not sv.detection.utils.masks.contains_holes(mask)
                for c in sv.mask_to_polygons(mask)
            ]
            arrays[f"{split}/{Path(path).name}"] = {"masks": drawn(parts), "near": near(contours, NEAR_CENTERS)}
    shutil.rmtree(source)
    save(root, "supervision", {name: labels_of(name, rings) for name in POLYGONS}, arrays, True)


def supervision_coco(root: Path) -> None:
    by_supervision(root, "coco")


def supervision_yolo(root: Path) -> None:
    by_supervision(root, "yolo")


def supervision_labelme(root: Path) -> None:
    by_supervision(root, "labelme")


# LabelMe


def labelme_labelme(root: Path) -> None:
    """Shapes with the keys of `_shape_to_dict` of LabelMe's window, which needs Qt; images without splits."""
    save_pictures(root / "data", lambda name: name.split("/")[1])
    arrays = {}
    for name, polygons in POLYGONS.items():
        about = {"group_id": None, "description": "", "flags": {}}
        shapes = [
            {"label": label, "points": points, **about, "shape_type": "polygon", "mask": None}
            for label, points in polygons
        ]
        if name in RINGS:
            label, (left, top, right, bottom) = RINGS[name]
            part = img_arr_to_b64(ring(name)[top : bottom + 1, left : right + 1].astype(np.uint8))
            corners = [(left, top), (right, bottom)]
            shapes.append({"label": label, "points": corners, **about, "shape_type": "mask", "mask": part})
        if name == "train/a.png":
            shapes.append(
                {"label": "old road", "points": [(40, 2), (46.5, 9)], **about, "shape_type": "rectangle", "mask": None}
            )
            turned = [(5, 26), (9, 24), (11, 28), (7, 30)]
            shapes.append({"label": "dog", "points": turned, **about, "shape_type": "oriented_rectangle", "mask": None})
        path = root / "data" / Path(name).with_suffix(".json").name
        LabelFile().save(
            str(path),
            shapes=shapes,
            image_path=Path(name).name,
            image_height=HEIGHT,
            image_width=WIDTH,
            image_data=path.with_suffix(".png").read_bytes() if name == "val/g.png" else None,
        )
        read = LabelFile(str(path)).shapes
        values = {label: 1 + index for index, label in enumerate(CLASSES)}
        borders = [
            shapely.box(*np.ravel(each["points"])).exterior.coords[:-1]
            if each["shape_type"] == "rectangle"
            else each["points"]
            for each in read
            if each["shape_type"] != "mask"
        ]
        mask = shapes_to_label((HEIGHT, WIDTH), read, values)[0].astype(np.uint8)
        arrays[name] = {"masks": mask, "near": near(borders, NEAR_CENTERS)}
    labels = {name: labels_of(name) for name in POLYGONS} | {"train/a.png": [*CLASSES]}
    save(root, "labelme", labels, arrays, False)


# Label Studio

CONTROLS = "".join(f'<Label value="{label}"/>' for label in CLASSES)
LABELING = f"""<View><Image name="image" value="$image"/>
<PolygonLabels name="polygon" toName="image">{CONTROLS}</PolygonLabels>
<BrushLabels name="brush" toName="image">{CONTROLS}</BrushLabels>
<Choices name="choice" toName="image"><Choice value="day"/><Choice value="night"/></Choices></View>"""
SIZE = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}


def label_studio(root: Path, choices: bool) -> None:
    """Tasks as the server exports them; it adds SIZE to the regions of the library."""
    save_pictures(root / "data" / "images", lambda name: name.split("/")[1])
    interface, tasks, arrays, labels = LabelInterface(LABELING), [], {}, {}
    for index, (name, polygons) in enumerate(POLYGONS.items()):
        results, parts = [], []
        for label, points in () if choices else polygons:
            shares = [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in points]
            results.append(interface.get_control("polygon").label(label=[label], points=shares)._dict() | SIZE)
            parts.append((label, filled(points)))
        if name in RINGS and not choices:
            rle = brush.mask2rle(ring(name).astype(np.uint8) * 255)
            results.append(
                interface.get_control("brush").label(label=[RINGS[name][0]], format="rle", rle=rle)._dict() | SIZE
            )
            parts.append((RINGS[name][0], brush.decode_rle(rle).reshape(HEIGHT, WIDTH, 4)[..., 3]))
        if choices:
            results.append(interface.get_control("choice").label(label=[("day", "night")[index % 2]])._dict())
        annotation = AnnotationValue(result=results, completed_by=1, result_count=len(results))
        task = TaskValue(
            data={"image": f"/data/upload/1/0a1b2c3d-{Path(name).name.replace(' ', '_')}"}, annotations=[annotation]
        )
        tasks.append({"id": index + 1, **task.model_dump()})
        arrays[name] = {"masks": drawn(parts), "near": near([points for _, points in polygons], NEAR_CENTERS)}
        labels[name] = [("day", "night")[index % 2]] if choices else labels_of(name)
    (root / "data" / "project-1-at-2026-01-01-00-00-0a1b2c3d.json").write_text(json.dumps(tasks))
    save(root, "label-studio-sdk", labels, None if choices else arrays, False)


# Hugging Face


def by_datasets(root: Path, kind: str) -> None:
    (root / "data" / "data").mkdir(parents=True)
    arrays: dict[str, Arrays] = {}
    labels = {name: [CLASSES[i % 3]] if kind == "class" else labels_of(name) for i, name in enumerate(POLYGONS)}
    for split in ("train", "val"):
        names = [name for name in POLYGONS if name.startswith(split)]
        columns: dict[str, list[Any]] = {"image": [picture(name) for name in names]}
        classes = datasets.ClassLabel(names=[*CLASSES])
        features: dict[str, Any] = {"image": datasets.Image()}
        if kind == "class":
            columns["label"], features["label"] = [labels[name][0] for name in names], classes
        elif kind == "labels":
            columns["labels"], features["labels"] = [labels[name] for name in names], datasets.List(classes)
        else:
            masks = {name: drawn([(label, filled(points)) for label, points in POLYGONS[name]]) for name in names}
            columns["annotation"] = [Image.fromarray(mask) for mask in masks.values()]
            features["annotation"] = datasets.Image()
        path = root / "data" / "data" / f"{'validation' if split == 'val' else split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(path)
        read = datasets.Dataset.from_parquet(str(path), cache_dir=str(root / "cache"))
        for name, row in zip(names, read, strict=True):
            assert np.array_equal(np.asarray(row["image"]), np.asarray(picture(name)))
            if kind == "masks":
                arrays[name] = {"masks": np.asarray(row["annotation"]), "near": np.zeros((HEIGHT, WIDTH), bool)}
    shutil.rmtree(root / "cache")
    save(root, "datasets", labels, arrays or None, True)


WRITERS: dict[str, Callable[[Path], None]] = {
    "datumaro-coco": datumaro_coco,
    "datumaro-cvat": datumaro_cvat,
    "datumaro-yolo": datumaro_yolo,
    "supervision-coco": supervision_coco,
    "supervision-yolo": supervision_yolo,
    "supervision-labelme": supervision_labelme,
    "labelme-labelme": labelme_labelme,
    "label_studio_sdk-label_studio": lambda root: label_studio(root, choices=False),
    "label_studio_sdk-choices": lambda root: label_studio(root, choices=True),
    "datasets-class": lambda root: by_datasets(root, "class"),
    "datasets-labels": lambda root: by_datasets(root, "labels"),
    "datasets-masks": lambda root: by_datasets(root, "masks"),
}


def main() -> None:
    for name, write in WRITERS.items():
        shutil.rmtree(FIXTURES / name, ignore_errors=True)
        (FIXTURES / name).mkdir(parents=True)
        write(FIXTURES / name)
        print(name)


if __name__ == "__main__":
    main()
