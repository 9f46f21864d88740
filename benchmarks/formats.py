"""Which data formats each task reads: a table from real round trips, for docs/data.md.

    python benchmarks/formats.py            # print the tables
    python benchmarks/formats.py --write    # write them into docs/data.md

Twenty-four images with known labels and masks are written in each format, most of them by another program's library.
`sightline doctor` and `sightline train` (one epoch of a tiny network) then read them. A cell is `yes` if both accept
the data, and if the labels in the run's splits.csv, or the pixels of each class that the doctor counted, are those that
were written. It is `refused` if both stop with a message and a cure. Anything else is an error of this script.
"""

import argparse
import csv
import io
import json
import re
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import sightline

COUNT, SIDE = 24, 32
CLASSES = ("cat", "dog", "owl")
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
TASKS = ("class", "several labels", "masks", "no labels")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "data.md"
TINY: dict[str, Any] = {"train.epochs": 1, "train.batch_size": 8, "train.precision": "fp32", "train.threads": 1}
TINY |= {"report.samples": 0, "report.train_samples": 0, "report.baselines": False}
SMALL = {"data.size": 16, "model.name": "small_cnn", "model.args": {"widths": [8, 8, 8], "hidden": 8}}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "class": ("photos_scratch", SMALL),
    "several labels": ("multilabel_scratch", SMALL | {"multilabel.threshold_fraction": 0}),
    "masks": ("scenes", {"model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8, 8]},
                         "augment.window": [32, 32], "data.palette": ""}),
    "no labels": ("moco_fast", {"data.size": 16, "model.args": {"widths": [8, 8, 8]}, "augment.progressive": [],
                                "pretrain.projector": [16, 8], "pretrain.predictor": 16}),
}  # fmt: skip


def shapes(index: int) -> list[tuple[str, list[tuple[int, int]]]]:
    """The labeled squares of an image, later ones on top: one, or two of different classes in every third image."""
    corner = 2 + index % 8
    found = [(CLASSES[index % 3], square(corner, 14))]
    return [*found, (CLASSES[(index + 1) % 3], square(corner + 8, 10))] if index % 4 == 0 else found


def square(start: int, side: int) -> list[tuple[int, int]]:
    return [(start, start), (start + side, start), (start + side, start + side), (start, start + side)]


def box(points: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    """The pixels that a square covers: left, top, right and bottom, the last two included."""
    return (*points[0], points[2][0] - 1, points[2][1] - 1)


def labels_of(index: int, task: str) -> list[str]:
    """The labels of an image; of the first square only for the task with one class per image."""
    names = sorted({name for name, _ in shapes(index)})
    return [shapes(index)[0][0]] if task == "class" else names


def picture(index: int) -> Image.Image:
    random = np.random.default_rng(index)
    image = Image.fromarray(random.integers(90, 160, (SIDE, SIDE, 3), np.uint8))
    for name, points in shapes(index):
        ImageDraw.Draw(image).rectangle(box(points), COLORS[CLASSES.index(name)])
    return image


def mask(index: int) -> Image.Image:
    """The true mask: 0 background, then the classes."""
    image = Image.new("L", (SIDE, SIDE))
    for name, points in shapes(index):
        ImageDraw.Draw(image).rectangle(box(points), 1 + CLASSES.index(name))
    return image


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def pictures(root: Path) -> list[str]:
    """Write the images into a folder; returns their names."""
    return [save(root / f"{index:02}.png", picture(index)).name for index in range(COUNT)]


def drawn(index: int, task: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """The squares that are annotated: for one class per image the first only."""
    return shapes(index)[:1] if task == "class" else shapes(index)


# Writers: function (folder, task) -> None; they return "" if the format has no such labels.


def class_folders(root: Path, task: str) -> str | None:
    if task not in ("class", "no labels"):
        return ""
    for index in range(COUNT):
        save(root / labels_of(index, task)[0] / f"{index:02}.png", picture(index))
    return None


def names_of_files(root: Path, task: str) -> str | None:
    if task not in ("class", "no labels"):
        return ""
    for index in range(COUNT):
        save(root / f"{labels_of(index, task)[0]}_{index:03}.png", picture(index))
    return None


def rows(path: Path, columns: dict[str, list[Any]], separator: str = ",") -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([list(columns), *zip(*columns.values(), strict=True)])


def table(root: Path, task: str, separator: str = ",", joined: str = ";") -> str | None:
    if task not in ("class", "several labels"):
        return ""
    names = pictures(root)
    labels = [joined.join(labels_of(index, task)) for index in range(COUNT)]
    rows(root / "labels.csv", {"filename": names, "label": labels}, separator)
    return None


def semicolons(root: Path, task: str) -> str | None:
    return table(root, task, ";", "|")


def one_hot(root: Path, task: str) -> str | None:
    if task != "several labels":
        return ""
    names = pictures(root)
    columns = {name: [int(name in labels_of(index, task)) for index in range(COUNT)] for name in CLASSES}
    rows(root / "labels.csv", {"filename": names} | columns)
    return None


def parquet(root: Path, task: str) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def encoded(image: Image.Image, name: str) -> dict[str, Any]:
        file = io.BytesIO()
        image.save(file, "PNG")
        return {"bytes": file.getvalue(), "path": name}

    columns: dict[str, Any] = {"image": [encoded(picture(index), f"{index}.png") for index in range(COUNT)]}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if task == "class":
        columns["label"] = [CLASSES.index(labels_of(index, task)[0]) for index in range(COUNT)]
        features["label"] = {"names": list(CLASSES), "_type": "ClassLabel"}
    elif task == "several labels":
        columns["label"] = [labels_of(index, task) for index in range(COUNT)]
        features["label"] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    elif task == "masks":
        columns["label"] = [encoded(mask(index), f"{index}.png") for index in range(COUNT)]
        features["label"] = {"_type": "Image"}
    (root / "data").mkdir(parents=True)
    if task == "masks":
        (root / "classes.txt").write_text("\n".join(("background", *CLASSES)))
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(info), root / "data" / "train-00000-of-00001.parquet")
    return None


def coco(root: Path, task: str) -> str | None:
    if task == "no labels":
        return ""
    names = pictures(root / "images")
    annotations = [
        {"id": 100 * index + number, "image_id": index, "category_id": 1 + CLASSES.index(name), "iscrowd": 0}
        | {"segmentation": [[float(value) for point in points for value in point]], "bbox": [*points[0], 14, 14]}
        for index in range(COUNT)
        for number, (name, points) in enumerate(drawn(index, task))
    ]
    images = [{"id": i, "file_name": name, "width": SIDE, "height": SIDE} for i, name in enumerate(names)]
    categories = [{"id": 1 + index, "name": name} for index, name in enumerate(CLASSES)]
    values = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(values))
    return None


def yolo(root: Path, task: str) -> str | None:
    if task == "no labels":
        return ""
    names = pictures(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    for index, name in enumerate(names):
        lines = [
            " ".join([str(CLASSES.index(label)), *(f"{value / SIDE}" for point in points for value in point)])
            for label, points in drawn(index, task)
        ]
        (root / "labels" / "train" / name).with_suffix(".txt").write_text("\n".join(lines))
    listed = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames:\n{listed}")
    return None


def labelme(root: Path, task: str) -> str | None:
    if task == "no labels":
        return ""
    for index, name in enumerate(pictures(root)):
        about = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in drawn(index, task)]
        size = {"imagePath": name, "imageData": None, "imageHeight": SIDE, "imageWidth": SIDE}
        (root / name).with_suffix(".json").write_text(json.dumps({"version": "5.4", "shapes": about, **size}))
    return None


def cvat(root: Path, task: str) -> str | None:
    if task == "no labels":
        return ""
    lines = ["<annotations><version>1.1</version><meta><task><labels>"]
    lines += [f"<label><name>{name}</name></label>" for name in CLASSES] + ["</labels></task></meta>"]
    for index, name in enumerate(pictures(root / "images")):
        lines += [f'<image id="{index}" name="{name}" width="{SIDE}" height="{SIDE}">']
        for order, (label, points) in enumerate(drawn(index, task)):
            text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
            lines += [f'<polygon label="{label}" points="{text}" occluded="0" z_order="{order}"></polygon>']
        lines += ["</image>"]
    (root / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))
    return None


def label_studio(root: Path, task: str) -> str | None:
    if task == "no labels":
        return ""
    tasks = []
    for index, name in enumerate(pictures(root / "images")):
        size = {"original_width": SIDE, "original_height": SIDE, "from_name": "label", "to_name": "image"}
        corners = [
            (label, [[x / SIDE * 100, y / SIDE * 100] for x, y in points]) for label, points in drawn(index, task)
        ]
        results = [
            {"id": f"r{index}", "type": "polygonlabels", "value": {"points": points, "polygonlabels": [label]}, **size}
            for label, points in corners
        ]
        tasks.append({"id": index, "data": {"image": f"/data/upload/1/{name}"}, "annotations": [{"result": results}]})
    (root / "export.json").write_text(json.dumps(tasks))
    return None


def folders_of_masks(root: Path, task: str) -> str | None:
    if task != "masks":
        return ""
    pictures(root / "images")
    for index in range(COUNT):
        save(root / "masks" / f"{index:02}.png", mask(index))
    (root / "classes.txt").write_text("\n".join(("background", *CLASSES)))
    return None


def shards(root: Path, task: str) -> str | None:
    """WebDataset shards, written with Python's tarfile: the files of a sample share their name."""
    if task != "class":
        return ""
    root.mkdir(parents=True)
    for split, start in (("train", 0), ("val", 16)):
        with tarfile.open(root / f"{split}-000000.tar", "w") as file:
            for index in range(start, 16 if split == "train" else COUNT):
                content = io.BytesIO()
                picture(index).save(content, "PNG")
                label = labels_of(index, task)[0].encode()
                for ending, data in (("png", content.getvalue()), ("cls", label)):
                    member = tarfile.TarInfo(f"{index:02}.{ending}")
                    member.size = len(data)
                    file.addfile(member, io.BytesIO(data))
    return None


def packed(root: Path, task: str) -> str | None:
    """Shards of `sightline pack`, from class folders, a table of label sets, or images and masks."""
    source = root.with_name("source")
    write = {"several labels": table, "masks": folders_of_masks}.get(task, class_folders)
    write(source, task)
    settings: dict[str, Any] = {"data.labels": "several"} if task == "several labels" else {}
    settings |= {"data.layout": "unlabelled"} if task == "no labels" else {}
    sightline.pack(source, root, quiet=True, **settings)
    return None


def image_files(extension: str, store: Callable[[Path, np.ndarray], None]) -> Callable[[Path, str], str | None]:
    """A writer of images in a file format: in class folders, or with masks in PNG. store: function (path, pixels uint8
    [H, W, 3]) -> None."""

    def write(root: Path, task: str) -> str | None:
        if task == "several labels":
            return ""
        for index in range(COUNT):
            below = "images" if task == "masks" else labels_of(index, task)[0]
            path = root / below / f"{index:02}{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            store(path, np.asarray(picture(index)))
            if task == "masks":
                save(root / "masks" / f"{index:02}.png", mask(index))
        if task == "masks":
            (root / "classes.txt").write_text("\n".join(("background", *CLASSES)))
        return None

    return write


def by_pillow(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, quality=95)


def heic(path: Path, pixels: np.ndarray) -> None:
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, quality=95)


def raster(bands: int, dtype: str, factor: float) -> Callable[[Path, np.ndarray], None]:
    """A function that writes the colors, times `factor`, in so many bands, as GDAL does."""
    import rasterio

    def store(path: Path, pixels: np.ndarray) -> None:
        values = (pixels.transpose(2, 0, 1)[np.arange(bands) % 3] * float(factor)).astype(dtype)
        about = {"count": bands, "height": SIDE, "width": SIDE, "dtype": dtype, "photometric": "MINISBLACK"}
        with rasterio.open(path, "w", driver="GTiff", **about) as file:
            file.write(values)

    return store


FORMATS: dict[str, Callable[[Path, str], str | None]] = {
    "class folders": class_folders,
    "label in the file name": names_of_files,
    "table, commas": table,
    "table, semicolons": semicolons,
    "table with a 0/1 column per class": one_hot,
    "Parquet with image bytes (pyarrow)": parquet,
    "COCO JSON": coco,
    "YOLO segmentation": yolo,
    "LabelMe JSON": labelme,
    "CVAT XML": cvat,
    "Label Studio JSON": label_studio,
    "folders of images and masks": folders_of_masks,
    "WebDataset shards (tarfile)": shards,
    "shards of `sightline pack`": packed,
    "WebP files (Pillow)": image_files(".webp", by_pillow),
    "AVIF files (Pillow)": image_files(".avif", by_pillow),
    "HEIC files (pillow-heif)": image_files(".heic", heic),
    "TIFF, RGB and near infrared, 8 bits (rasterio)": image_files(".tif", raster(4, "uint8", 1)),
    "TIFF, 12 bands of 12 bits in 16 (rasterio)": image_files(".tif", raster(12, "uint16", 16)),
    "TIFF, 3 bands of floats (rasterio)": image_files(".tif", raster(3, "float32", 1 / 255)),
}


def cell(write: Callable[[Path, str], str | None], task: str, folder: Path) -> str:
    """One cell of the table: `yes`, `refused`, or `-` if the format has no such labels."""
    data = folder / "data"
    if write(data, task) == "":
        return "-"
    name, settings = RECIPES[task]
    reading: dict[str, Any] = {"data.labels": "several"} if task == "several labels" and not shapes_in(data) else {}
    try:
        found = sightline.doctor(data, out=folder / "doctor", quiet=True, **reading)
        run = sightline.train(name, data, out=folder / "run", quiet=True, **TINY | settings | reading)
    except sightline.SightlineError as error:
        assert error.cure, error
        return f"refused: {error.what}"
    errors = [finding.what for finding in found.findings if finding.severity == "error"]
    assert not errors, errors
    if task == "masks":
        compare_masks(found.understood["classes"])
    elif task != "no labels":
        compare_labels(run.path, task)
    return "yes"


def shapes_in(data: Path) -> bool:
    """Whether the folder has files of an annotation program, by which labels need no setting."""
    return any(data.rglob("*.json")) or any(data.rglob("*.xml")) or any(data.rglob("*.yaml"))


def compare_labels(run: Path, task: str) -> None:
    with open(run / "splits.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {re.findall(r"\d+", row["filename"])[-1].lstrip("0") or "0": row["label"] for row in rows}
    truth = {str(index): ";".join(labels_of(index, task)) for index in range(COUNT)}
    assert found == truth, (found, truth)


def compare_masks(text: str) -> None:
    """Compare the shares of pixels that the doctor prints, such as "cat 10.2%", with the true ones."""
    found = {name: float(share) for name, share in re.findall(r"(\w+) ([0-9.]+)%", text)}
    counts = np.bincount(np.concatenate([np.asarray(mask(index)).ravel() for index in range(COUNT)]), minlength=4)
    truth = dict(zip(("background", *CLASSES), 100 * counts / counts.sum(), strict=True))
    assert all(abs(found[name] - share) < 0.2 for name, share in truth.items()), (found, truth)


def matrix() -> list[str]:
    """The table as lines of Markdown."""
    lines = [f"| format | {' | '.join(TASKS)} |", "|---" * (1 + len(TASKS)) + "|"]
    for title, write in FORMATS.items():
        cells = []
        for task in TASKS:
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    cells.append(cell(write, task, Path(folder)))
                except Exception as error:
                    error.add_note(f"{title}, {task}")
                    raise
        lines.append(f"| {title} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/data.md")
    options = parser.parse_args()
    lines = matrix()
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        start, end = "<!-- formats -->\n", "<!-- end of formats -->"
        before, after = text.split(start)[0], text.split(end)[1]
        PAGE.write_text(before + start + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
