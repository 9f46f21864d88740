"""Reading a run folder, whatever part of it is there."""

import csv
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..config.strict_yaml import parse_yaml
from ..errors import SightlineError, listing
from ..runs.atomic import read_json_lines
from ..runs.csv_io import RUN_COLUMNS, classes_of

MARKS = ("recipe.yaml", "metrics.jsonl", "provenance.json")
T = TypeVar("T")
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    EOFError,
    StopIteration,
    RecursionError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
    SightlineError,
)


@dataclass(frozen=True)
class Predictions:
    """predictions/val.csv. names: N. predicted, truth: int64 [N], indices into classes. confidence: float64 [N]."""

    names: tuple[str, ...]
    predicted: np.ndarray
    truth: np.ndarray
    confidence: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """Thumbnails uint8 [M, 3, h, w] of validation images and their rows int64 [M] in predictions/val.csv."""

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class Snapshot:
    """Of the fixed samples after an epoch: penultimate features float32 [M, D], and where the run kept them predictions
    int64 [M] and their confidence float64 [M]."""

    epoch: int
    features: np.ndarray
    predictions: np.ndarray | None = None
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds. A part that is missing or unreadable is empty or None, and `missing` says so.

    classes: from the predictions, else from provenance.json. snapshots: the kept epochs;
    train_snapshots, train_samples: the same of training images. grouped: `classes` and the labels of the samples are
    groups that were found in the features (groups.py).
    """

    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    provenance: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    classes: tuple[str, ...]
    preview: bytes | None
    missing: tuple[str, ...]
    predictions: Predictions | None = None
    mistakes: Pictures | None = None
    samples: Pictures | None = None
    snapshots: tuple[Snapshot, ...] = ()
    train_samples: Pictures | None = None
    train_snapshots: tuple[Snapshot, ...] = ()
    grouped: bool = False


def read_run(folder: str | Path) -> RunFiles:
    """The files that runs of every task have. Raises SightlineError where the folder holds no run; missing parts are not
    an error."""
    path = Path(folder)
    if not any((path / mark).is_file() for mark in MARKS):
        raise not_a_run(path)
    missing: list[str] = []
    text = attempt("recipe.yaml", path, read_text, missing, "")
    recipe = attempt("recipe.yaml", path, read_recipe, missing if text else [], {})
    provenance = attempt("provenance.json", path, read_provenance, missing, {})
    records = tuple(read_json_lines(path / "metrics.jsonl"))
    if not records:
        missing.append("metrics.jsonl: not there, or empty")
    preview = attempt("figures/preview.png", path, read_png, [], None)
    return RunFiles(path, recipe, text, provenance, records, class_names(provenance), preview, tuple(missing))


def with_predictions(files: RunFiles) -> RunFiles:
    """The files with predictions/val.csv and the thumbnails of mistakes."""
    missing = list(files.missing)
    predictions = attempt("predictions/val.csv", files.path, read_predictions, missing, None)
    mistakes = attempt("snapshots/mistakes.npz", files.path, read_pictures, missing, None)
    classes = predictions.classes if predictions else files.classes
    return replace(files, predictions=predictions, mistakes=mistakes, classes=classes, missing=tuple(missing))


def with_samples(files: RunFiles) -> RunFiles:
    """The files with the sampled validation images and their features at the kept epochs, of training images too where
    the run kept some."""
    path, missing = files.path, list(files.missing)
    trained = (path / "snapshots" / "train-samples.npz").is_file()
    samples = attempt("snapshots/samples.npz", path, read_pictures, missing, None)
    snapshots = read_snapshots(path, missing)
    train_snapshots = read_snapshots(path, missing, "train-features.npz") if trained else ()
    train_samples = attempt("snapshots/train-samples.npz", path, read_pictures, missing, None) if trained else None
    return replace(
        files,
        samples=samples,
        snapshots=snapshots,
        train_snapshots=train_snapshots,
        train_samples=train_samples,
        missing=tuple(missing),
    )


def attempt(name: str, folder: Path, read: Callable[[Path], T], missing: list[str], otherwise: T) -> T:
    """`read` of a part of the run, or `otherwise` and one more line in `missing`."""
    path = folder / name
    if not path.is_file():
        missing.append(f"{name}: not there")
        return otherwise
    try:
        return read(path)
    except UNREADABLE as error:
        missing.append(f"{name}: cannot be read ({type(error).__name__}: {error})".replace("\n", " "))
        return otherwise


def not_a_run(path: Path) -> SightlineError:
    """The error for a folder without a run, naming the runs right below it."""
    below = sorted({file.parent for mark in MARKS for file in path.glob(f"*/{mark}")}) if path.is_dir() else []
    cure = "name the folder that `sightline train` printed, such as runs/NAME"
    if below:
        cure = "name one of the runs in it:\n" + listing([str(folder) for folder in below], 10)
    why = f"it has none of {', '.join(MARKS)}" if path.is_dir() else "there is no such folder"
    return SightlineError("this is not a run folder", where=str(path), why=why, cure=cure)


def read_text(path: Path) -> str:
    """UTF-8 text; undecodable bytes are replaced."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe as plain nested values. Not validated: the report of an older version's run must not fail."""
    values = parse_yaml(read_text(path), path.name)
    if not isinstance(values, dict):
        raise ValueError("not a mapping")
    return values


def read_provenance(path: Path) -> dict[str, Any]:
    """provenance.json as a dict."""
    values = json.loads(read_text(path))
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values


def class_names(provenance: dict[str, Any]) -> tuple[str, ...]:
    """Class names out of provenance.json; empty where it has none."""
    data = provenance.get("data")
    names = data.get("classes") if isinstance(data, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def read_png(path: Path) -> bytes:
    """The bytes of a picture."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG") or len(data) < 24:
        raise ValueError("not a PNG")
    return data


def read_predictions(path: Path) -> Predictions:
    """predictions/val.csv. Raises ValueError where it lacks rows or columns, or names a class not in its header."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        if tuple(header[:4]) != RUN_COLUMNS:
            raise ValueError(f"its first columns are not {', '.join(RUN_COLUMNS)}")
        rows = [line[:4] for line in lines]
    classes = classes_of(header[4:])
    index = {name: place for place, name in enumerate(classes)}
    strange = next((name for row in rows for name in (row[1], row[2]) if name not in index), None)
    if strange is not None or not rows:
        raise ValueError("it has no rows" if not rows else f"{strange!r} is not a class of its header")
    return Predictions(
        names=tuple(row[0] for row in rows),
        predicted=np.array([index[row[1]] for row in rows], dtype=np.int64),
        truth=np.array([index[row[2]] for row in rows], dtype=np.int64),
        confidence=np.array([float(row[3]) for row in rows]).clip(0, 1),
        classes=classes,
    )


def read_pictures(path: Path) -> Pictures:
    """samples.npz or mistakes.npz."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, rows = arrays["images"], arrays["index"].astype(np.int64)
        labels = arrays["labels"].astype(np.int64) if "labels" in arrays else None
    usable = images.ndim == 4 and images.shape[1] == 3 and images.dtype == np.uint8 and 0 not in images.shape[2:]
    if not usable or rows.shape != images.shape[:1] or (labels is not None and labels.shape != rows.shape):
        raise ValueError(f"images {images.dtype} {images.shape} for {len(rows)} rows, expected uint8 [M, 3, h, w]")
    return Pictures(images, rows, labels)


def read_snapshots(folder: Path, missing: list[str], file: str = "features.npz") -> tuple[Snapshot, ...]:
    """The kept epochs of snapshots/epoch-*/FILE."""
    found: dict[int, Path] = {}
    for path in (folder / "snapshots").glob(f"epoch-*/{file}"):
        digits = path.parent.name.removeprefix("epoch-")
        if digits.isdigit():
            found[int(digits)] = path
    if not found:
        missing.append(f"snapshots/epoch-*/{file}: not there")
    snapshots = []
    for epoch in sorted(found):
        name = str(found[epoch].relative_to(folder))
        arrays = attempt(name, folder, read_features, missing, None)
        if arrays is not None:
            snapshots.append(Snapshot(epoch, *arrays))
    return tuple(snapshots)


def read_features(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(features, predictions, confidence) of a snapshot, see `Snapshot`; features must be finite, the others usable."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        features = arrays["features"].astype(np.float32)
        others = [arrays.get(name) for name in ("predictions", "confidence")]
    if features.ndim != 2 or not features.shape[1] or not np.isfinite(features).all():
        raise ValueError(f"features {features.shape} with values that are not finite, or not [M, D]")
    predictions, confidence = others
    if predictions is not None and (predictions.shape != features.shape[:1] or predictions.dtype.kind not in "iu"):
        predictions = None
    if confidence is not None and (confidence.shape != features.shape[:1] or not np.isfinite(confidence).all()):
        confidence = None
    return (
        features,
        None if predictions is None else predictions.astype(np.int64),
        None if predictions is None or confidence is None else confidence.astype(np.float64),
    )
