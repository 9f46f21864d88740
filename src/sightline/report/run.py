"""Read the files of a run folder; missing and unreadable parts are reported, not raised."""

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..config.strict_yaml import parse_yaml
from ..errors import SightlineError
from ..runs.atomic import read_json_lines
from ..runs.csv_io import RUN_COLUMNS, classes_of
from ..runs.run_folder import existing
from ..runs.sampling import sample_rows
from ..stats.groups import ids_in, read_groups
from .formatting import section

T = TypeVar("T")
MOST_POINTS = 2500
"""Maximum number of images on a map. The time of t-SNE and of k-NN grows faster than this number."""
UNREADABLE = (
    *(OSError, ValueError, LookupError, EOFError, StopIteration, RecursionError),
    *(csv.Error, zipfile.BadZipFile, zlib.error, SightlineError),
)
"""Exceptions that can be raised when a damaged file is read."""


@dataclass(frozen=True)
class Predictions:
    """The N rows of predictions/val.csv, one per validation image.

    names: file names of the images. predicted, truth: int64 [N], indices into `classes`. confidence: float64 [N], of
    the predicted class. second: float64 [N], of two classes the probability of the second one.
    """

    names: tuple[str, ...]
    predicted: np.ndarray
    truth: np.ndarray
    confidence: np.ndarray
    classes: tuple[str, ...]
    second: np.ndarray | None = None


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails of M images.

    images: uint8 [M, 3, h, w]. rows: int64 [M], the row of each image in predictions/val.csv. labels: class indices
    int64 [M], label sets int64 [M, K] of 0 and 1, or None without labels.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class Snapshot:
    """Results of the model after an epoch for the M sample images.

    features: float32 [M, D]. predictions: class indices int64 [M]. confidence: float64 [M]. predictions and confidence
    are None if they were not stored.
    """

    epoch: int
    features: np.ndarray
    predictions: np.ndarray | None = None
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder. A missing or unreadable part is empty or None, and has a line in `missing`.

    recipe_text: the text of recipe.yaml. records: of metrics.jsonl. classes: names from predictions/val.csv, else from
    provenance.json. mistakes: misclassified images. samples, snapshots: images whose features were stored, and one
    snapshot per stored epoch. train_samples, train_snapshots: the same for training images. stored, train_stored:
    number of images with stored features, of which `samples` and `train_samples` are all or a random part. clustered:
    whether `classes` and the labels of the samples are clusters of the features, see `findings.with_clusters`. split:
    whose predictions are read; samples and mistakes are those of `val`.
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
    mistakes: Thumbnails | None = None
    samples: Thumbnails | None = None
    snapshots: tuple[Snapshot, ...] = ()
    train_samples: Thumbnails | None = None
    train_snapshots: tuple[Snapshot, ...] = ()
    stored: int = 0
    train_stored: int = 0
    clustered: bool = False
    split: str = "val"

    @property
    def end(self) -> dict[str, Any]:
        """The latest record of the end of a training, with the final results; {} without one. Whether the run is
        trained further after it: `History.finished`."""
        return next((record for record in reversed(self.records) if record.get("event") == "done"), {})

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The records of `sightline evaluate` on other splits or data, made with the weights that the run has now."""
        done = [index for index, record in enumerate(self.records) if record.get("event") == "done"]
        return [record for record in self.records[max(done, default=0) :] if record.get("event") == "test"]

    @property
    def evaluation(self) -> dict[str, Any]:
        """The latest of `evaluations` on `split` of the run's own data; {} without one."""
        path = section(self.provenance, "data").get("path")
        own = [one for one in self.evaluations if (one.get("split"), one.get("path")) == (self.split, path)]
        return own[-1] if own else {}

    def group_ids(self, names: Sequence[str]) -> np.ndarray | None:
        """The ids int64 [N] of the groups of the images of `split`; None without groups."""
        groups = read_groups(self.path, names, self.split)
        return ids_in(groups)


def read_run(folder: str | Path, split: str = "val") -> RunFiles:
    """Read the files that runs of all tasks have. Raises SightlineError if the folder is not a run."""
    path, missing = existing(folder), []
    recipe = attempt("recipe.yaml", path, read_recipe, missing, {})
    provenance = attempt("provenance.json", path, read_provenance, missing, {})
    records = tuple(read_json_lines(path / "metrics.jsonl"))
    if not records:
        missing.append("metrics.jsonl: missing or empty")
    names = section(provenance, "data").get("classes")
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    preview = attempt("figures/preview.png", path, read_png, [], None)
    text = attempt("recipe.yaml", path, read_text, [], "")
    return RunFiles(path, recipe, text, provenance, records, classes, preview, tuple(missing), split=split)


def with_predictions(files: RunFiles) -> RunFiles:
    """Return the files of a run, with the predictions on its split and the thumbnails of misclassified images added."""
    missing = list(files.missing)
    predictions = attempt(f"predictions/{files.split}.csv", files.path, read_predictions, missing, None)
    mistakes = mistakes_of(files, missing)
    classes = predictions.classes if predictions else files.classes
    return replace(files, predictions=predictions, mistakes=mistakes, classes=classes, missing=tuple(missing))


def mistakes_of(files: RunFiles, missing: list[str]) -> Thumbnails | None:
    """The thumbnails of misclassified validation images; None for predictions on another split."""
    if files.split != "val":
        return None
    return attempt("snapshots/mistakes.npz", files.path, read_thumbnails, missing, None)


def with_samples(files: RunFiles) -> RunFiles:
    """Return the files of a run, with the sample images and their features at the stored epochs added.

    If the run has stored features of training images, these are added too. Of many images, a random part is used
    (`thinned`). For predictions on another split than `val`, nothing is added.
    """
    if files.split != "val":
        return files
    path, missing = files.path, list(files.missing)
    samples = attempt("snapshots/samples.npz", path, read_thumbnails, missing, None)
    samples, snapshots, stored = thinned(samples, read_snapshots(path, missing))
    files = replace(files, samples=samples, snapshots=snapshots, stored=stored)
    if (path / "snapshots" / "train-samples.npz").is_file():
        snapshots = read_snapshots(path, missing, "train-features.npz")
        samples = attempt("snapshots/train-samples.npz", path, read_thumbnails, missing, None)
        samples, snapshots, stored = thinned(samples, snapshots)
        files = replace(files, train_samples=samples, train_snapshots=snapshots, train_stored=stored)
    return replace(files, missing=tuple(missing))


def thinned(
    samples: Thumbnails | None, snapshots: tuple[Snapshot, ...]
) -> tuple[Thumbnails | None, tuple[Snapshot, ...], int]:
    """Keep the same random images in `samples` and in each of `snapshots`: (samples, snapshots, number of samples
    before).

    Nothing changes if there are few images, or if the numbers of images differ.
    """
    count = len(samples.rows) if samples else 0
    if samples is None or count <= MOST_POINTS or any(len(one.features) != count for one in snapshots):
        return samples, snapshots, count
    kept = sample_rows(count, MOST_POINTS, seed=0)
    labels = None if samples.labels is None else samples.labels[kept]
    parts = [
        replace(
            one,
            features=one.features[kept],
            predictions=None if one.predictions is None else one.predictions[kept],
            confidence=None if one.confidence is None else one.confidence[kept],
        )
        for one in snapshots
    ]
    return Thumbnails(samples.images[kept], samples.rows[kept], labels), tuple(parts), count


def attempt(name: str, folder: Path, read: Callable[[Path], T], missing: list[str], otherwise: T) -> T:
    """Return `read(folder / name)`; if that fails, return `otherwise` and append the reason to `missing`."""
    path = folder / name
    if not path.is_file():
        missing.append(f"{name}: missing")
        return otherwise
    try:
        return read(path)
    except UNREADABLE as error:
        missing.append(f"{name}: cannot be read ({type(error).__name__}: {error})".replace("\n", " "))
        return otherwise


def read_text(path: Path) -> str:
    """Read UTF-8 text; undecodable bytes are replaced."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the recipe as nested values, without validation, so that runs of other versions can be reported."""
    return mapping(parse_yaml(read_text(path), path.name))


def read_provenance(path: Path) -> dict[str, Any]:
    """Read provenance.json as a dict."""
    return mapping(json.loads(read_text(path)))


def mapping(values: Any) -> dict[str, Any]:
    """Return `values`; raise ValueError if it is not a dict."""
    if not isinstance(values, dict):
        raise ValueError("not a mapping")
    return values


def read_png(path: Path) -> bytes:
    """Read the bytes of a PNG file; raises ValueError for other content."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG") or len(data) < 24:
        raise ValueError("not a PNG")
    return data


def read_predictions(path: Path) -> Predictions:
    """Read predictions/val.csv. Raises ValueError for missing rows or columns, and for classes not in its header."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        if tuple(header[:4]) != RUN_COLUMNS:
            raise ValueError(f"its first columns are not {', '.join(RUN_COLUMNS)}")
        rows = [line[: 4 if len(header) != 6 else 6] for line in lines]
    if not rows:
        raise ValueError("it has no rows")
    classes = classes_of(header[4:])
    index = {name: number for number, name in enumerate(classes)}
    unknown = next((name for row in rows for name in row[1:3] if name not in index), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not a class of its header")
    return Predictions(
        names=tuple(row[0] for row in rows),
        predicted=np.array([index[row[1]] for row in rows], dtype=np.int64),
        truth=np.array([index[row[2]] for row in rows], dtype=np.int64),
        confidence=np.array([float(row[3]) for row in rows]).clip(0, 1),
        classes=classes,
        second=np.array([float(row[5]) for row in rows]).clip(0, 1) if len(classes) == 2 else None,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz file, without unpickling."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def read_thumbnails(path: Path) -> Thumbnails:
    """Read samples.npz or mistakes.npz. Raises ValueError for arrays of unexpected or unequal shapes."""
    arrays = read_arrays(path)
    images, rows = arrays["images"], arrays["index"].astype(np.int64)
    labels = arrays["labels"].astype(np.int64) if "labels" in arrays else None
    usable = images.ndim == 4 and images.shape[1] == 3 and images.dtype == np.uint8 and 0 not in images.shape[2:]
    if not usable or rows.shape != images.shape[:1] or (labels is not None and len(labels) != len(rows)):
        raise ValueError(f"images {images.dtype} {images.shape} for {len(rows)} rows, expected uint8 [M, 3, h, w]")
    return Thumbnails(images, rows, labels)


def read_snapshots(folder: Path, missing: list[str], file: str = "features.npz") -> tuple[Snapshot, ...]:
    """Read the snapshots of a run, snapshots/epoch-*/FILE, sorted by epoch.

    missing: a line is appended for each file that is missing or cannot be read. file: the name FILE.
    """
    paths = (folder / "snapshots").glob(f"epoch-*/{file}")
    found = {int(digits): path for path in paths if (digits := path.parent.name.removeprefix("epoch-")).isdigit()}
    if not found:
        missing.append(f"snapshots/epoch-*/{file}: missing")
    read = (attempt(str(found[e].relative_to(folder)), folder, read_snapshot, missing, None) for e in sorted(found))
    return tuple(snapshot for snapshot in read if snapshot is not None)


def read_snapshot(path: Path) -> Snapshot:
    """Read the snapshot of an epoch from features.npz or train-features.npz.

    Raises ValueError for features of another shape. Invalid predictions and confidences are ignored.
    """
    arrays = read_arrays(path)
    features, predictions = arrays["features"].astype(np.float32), arrays.get("predictions")
    confidence = arrays.get("confidence")
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"features {features.shape} are not [M, D]")
    epoch, count = int(path.parent.name.removeprefix("epoch-")), features.shape[:1]
    if predictions is None or predictions.shape != count or predictions.dtype.kind not in "iu":
        return Snapshot(epoch, features)
    if confidence is None or confidence.shape != count or not np.isfinite(confidence).all():
        return Snapshot(epoch, features, predictions.astype(np.int64))
    return Snapshot(epoch, features, predictions.astype(np.int64), confidence.astype(np.float64))
