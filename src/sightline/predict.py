"""`sightline predict`: predict images with a run, and write a table or masks."""

import os
from collections.abc import Sequence
from pathlib import Path

from .config.paths import path_of
from .errors import SightlineError
from .inference.inputs import PRECISIONS, PredictOptions
from .inference.prelabels import DOCUMENTS
from .runs import run_folder
from .runs.terminal import print_plain
from .tasks import TASKS
from .tasks.files import load_recipe_file
from .user_code import accepts_code


@accepts_code
def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    features: bool = False,
    overlay: bool = False,
    tile: int = 1024,
    precision: str = "fp32",
    format: str = "",
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
) -> Path:
    """Classify or segment images with a run; returns the path of the result.

    images: folders, image files, patterns, lists of paths, or `-` for standard input; see `inference.inputs`. A
    classifier writes the table `out` (.csv or .parquet). A segmentation model writes one mask per image to the folder
    `out`. tile applies only to masks, see `tasks.segment.predict.predict`. overlay: also draw the masks, or the class
    activation maps of a classifier, over the images.

    Columns of the table: filename (relative to the input folder), label, confidence, one probability per class, and
    error (the reason if an image cannot be read). features: also write the features before the last layer, float32
    [rows, D], to `NAME.features.npy`, with NaN for images that cannot be read; runs of pre-training write only these.
    precision: of the computation, for tables: `fp32`, in which the run's own results are computed; `bf16`; `fp16`; or
    `auto`, a 16-bit format if it is faster. Masks are always computed in `fp32`. format: `coco` or `labelstudio` writes
    a JSON file `out` for annotation programs instead.

    Rows are appended to `out.part`, which is renamed at the end; the same call resumes an interrupted prediction. Under
    torchrun the images are divided among the processes. Raises SightlineError for invalid input or existing output.
    """
    folder = run_folder.existing(run)
    config = load_recipe_file(folder / "recipe.yaml")
    inputs = [images] if isinstance(images, str | os.PathLike) or images is None else list(images)
    if odd := [one for one in inputs if not isinstance(one, str | os.PathLike)]:
        cure = "for images in memory: sightline.load(run).predict(images)"
        raise SightlineError(f"images must be paths, found {type(odd[0]).__name__}", where="images", cure=cure)
    inputs = [os.fspath(path) for path in inputs]
    if precision not in PRECISIONS:
        cure = f"use one of {', '.join(PRECISIONS)}: --precision auto"
        raise SightlineError(f"there is no precision {precision!r}", where="--precision", cure=cure)
    if format not in ("", *DOCUMENTS):
        cure = f"use one of {', '.join(DOCUMENTS)}: --format coco"
        raise SightlineError(f"there is no format {format!r} for predictions", where="--format", cure=cure)
    options = PredictOptions(overwrite, features, overlay, tile, precision, format)
    say = (lambda text: None) if quiet else print_plain
    if note := run_folder.unfinished_note(folder):
        say(note)
    task = TASKS[config.task]
    command = f"predict --format {format}" if format else "predict"
    function = task.supported(task.prelabel if format else task.predict, command, str(folder))
    return function(folder, config, inputs, path_of(out), options, say)
