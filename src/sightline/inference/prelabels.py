"""Predictions as files that annotation programs import: COCO and Label Studio."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..config.schema import Config
from ..data.annotations.label_studio import brush_codes
from ..data.annotations.shapes import Shape, area_of
from ..data.decode.masks import image_size
from ..data.label_arrays import SEPARATOR
from ..data.parallel import share_of
from ..errors import SightlineError, counted
from ..runs.atomic import atomic_write
from ..runs.csv_io import PREDICT_COLUMNS, classes_of
from .inputs import STDIN, PredictOptions, input_images
from .predictor import Predictor
from .tables import predict_table


@dataclass(frozen=True)
class Prelabel:
    """The prediction of an image. size: height and width. regions: areas with their scores, 0 to 1. labels: labels of
    the whole image with their probabilities. probabilities: of all classes."""

    name: str
    size: tuple[int, int]
    regions: Sequence[tuple[Shape, float]] = ()
    labels: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)


def coco_document(images: Sequence[Prelabel], classes: Sequence[str]) -> dict[str, Any]:
    """A COCO data set whose annotations have scores. Labels of a whole image are annotations without an area."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        found = [(label, score, {}) for label, score in image.labels.items()]
        found += [(shape.label, score, coco_area(shape, image.size)) for shape, score in image.regions]
        for label, score, area in found:
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": [*classes].index(label) + 1}
            annotations.append({**ids, **area, "iscrowd": 0, "score": score})
    sizes = [{"height": image.size[0], "width": image.size[1]} for image in images]
    entries = [{"id": i, "file_name": image.name, **sizes[i - 1]} for i, image in enumerate(images, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": entries, "annotations": annotations, "categories": categories}


def coco_area(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    """Polygons or run lengths of a shape in COCO, its box [left, top, width, height] and its number of pixels."""
    rows, columns, part = area_of(shape, *size)
    coded = [points.round(2).ravel().tolist() for points in shape.polygons]
    runs = {"size": list(size), "counts": shape.runs.counts.tolist()} if shape.runs else None
    y, x = np.nonzero(part)
    box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1] if len(x) else [0, 0, 0, 0]
    box = [box[0] + columns.start, box[1] + rows.start, *box[2:]]
    return {"segmentation": runs or coded, "bbox": box, "area": len(x)}


def studio_document(images: Sequence[Prelabel], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Tasks of Label Studio with predictions: polygons, brush masks and choices for the tags of docs/predict.md."""
    tasks = []
    for image in images:
        height, width = image.size
        results = [studio_result("choices", [*image.labels], {}, max(image.labels.values()))] if image.labels else []
        for shape, score in image.regions:
            if shape.runs:
                rows, columns, part = area_of(shape, height, width)
                pixels = np.zeros(image.size, bool)
                pixels[rows, columns] = part
                about = {"format": "rle", "rle": brush_codes(pixels)}
            else:
                about = {"points": (shape.polygons[0] * 100 / (width, height)).round(4).tolist(), "closed": True}
            kind = "brushlabels" if shape.runs else "polygonlabels"
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            results.append(studio_result(kind, [shape.label], about, score) | size)
        scores = [each["score"] for each in results]
        prediction = {"model_version": "sightline", "score": float(np.mean(scores or [0])), "result": results}
        task = {
            "data": {"image": f"/data/local-files/?d={quote(os.fsencode(image.name))}"},
            "predictions": [prediction],
        }
        tasks.append(task | ({"meta": {"probabilities": dict(image.probabilities)}} if image.probabilities else {}))
    return tasks


def studio_result(kind: str, labels: list[str], about: dict[str, Any], score: float) -> dict[str, Any]:
    """A result of Label Studio. The names of the tags are polygon, brush, choices and image."""
    names = {"type": kind, "from_name": kind.removesuffix("labels"), "to_name": "image"}
    return {**names, "value": {**about, kind: labels}, "score": score}


DOCUMENTS: dict[str, Callable[[Sequence[Prelabel], Sequence[str]], Any]] = {
    "coco": coco_document,
    "labelstudio": studio_document,
}
"""By the option --format."""


def write_prelabels(out: Path, images: Sequence[Prelabel], classes: Sequence[str], options: PredictOptions) -> Path:
    """Write the file `out` in the format of the options; returns its path."""
    return atomic_write(out, json.dumps(DOCUMENTS[options.format](images, classes)))


def require_free(out: Path, options: PredictOptions, inputs: Sequence[str]) -> None:
    """Raise SightlineError unless `out` is a .json file that may be written, by one process and from files, without
    features."""
    if options.features:
        cure = "omit --features, or write them with a table: --features --out FILE.csv, without --format"
        raise SightlineError("--features has no effect on this format", where="--format", cure=cure)
    if share_of(os.environ).world > 1 or {*inputs} & {*STDIN}:
        cure = "start the command without torchrun, and with a folder or a file that lists the images"
        raise SightlineError("this format cannot be written in parts", where="--format", cure=cure)
    if out.suffix.lower() != ".json":
        raise SightlineError("this format is a JSON file", where=str(out), cure="choose a file: --out FILE.json")
    if out.exists() and not options.overwrite:
        cure = "choose another file: --out FILE.json; or replace it with --overwrite"
        raise SightlineError("the output exists already", where=str(out), cure=cure)


def predict_choices(
    folder: Path,
    config: Config,
    inputs: Sequence[str],
    out: Path,
    options: PredictOptions,
    load: Callable[[], Predictor],
    say: Callable[[str], None],
) -> Path:
    """Predict labels of whole images: write the table FILE.csv, and from it `out`, FILE.json; returns `out`."""
    require_free(out, options, inputs)

    def write(table: Path, target: Path) -> None:
        images, classes = labeled_images(table, inputs, config)
        write_prelabels(out, images, classes, options)
        say(f"{counted(len(images), 'image')} in {out.name}; the table of all probabilities is {target.name}")

    table = out.with_suffix(".csv")
    predict_table(folder, config, inputs, table, options, load, say, complete=write, replaced=[out])
    return out


def labeled_images(table: Path, inputs: Sequence[str], config: Config) -> tuple[list[Prelabel], tuple[str, ...]]:
    """The readable images of a table with their labels, and the classes."""
    paths, images = {image.name: image.path for image in input_images(inputs, Counter())}, []
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    first = len(PREDICT_COLUMNS)
    classes = classes_of(header[first:-1])
    for name, label, _, *values, error in rows:
        if not error:
            every = {known: float(value) for known, value in zip(classes, values, strict=True)}
            labels = {each: every[each] for each in (label.split(SEPARATOR) if label not in every else [label]) if each}
            images.append(Prelabel(name, image_size(paths[name], config.data.max_pixels), (), labels, every))
    return images, classes
