"""`sightline predict`: images in, a table or masks out."""

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import SightlineError
from .inference.autotune import PRECISIONS
from .inference.options import PredictOptions
from .runs import run_folder
from .runs.terminal import print_plain
from .tasks import TASKS
from .tasks.files import load_recipe_file


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    features: bool = False,
    overlay: bool = False,
    tile: int = 1024,
    precision: str = "run",
    quiet: bool = False,
) -> Path:
    """Classify or segment images with the weights of a run, and return the path of the result.

    images: folders, images, patterns, lists, or `-` for standard input, see `inference.inputs`. A classifier
    writes the table `out` (.csv or .parquet), a segmenter a mask for each image into the folder `out`, see
    `tasks.segment.predict.predict`; only there overlay and tile have an effect.

    Columns: filename (relative to the folder), label, confidence, a probability for each class, error: why an image
    cannot be read. features: also write the penultimate features, float32 [rows, D], to `NAME.features.npy`, NaN for
    images that cannot be read; a pre-training has no other result. Rows are appended to `out.part`, which is renamed
    to `out` at the end. Repeating the command resumes an interrupted one. Under torchrun the processes share the
    images. precision: see `inference.autotune.choose_precision`.
    """
    folder = run_folder.existing(run)
    config = load_recipe_file(folder / "recipe.yaml")
    inputs = [os.fspath(images)] if isinstance(images, str | os.PathLike) else [os.fspath(path) for path in images]
    if precision not in PRECISIONS:
        raise SightlineError(f"there is no precision {precision!r}", where="--precision", cure=" or ".join(PRECISIONS))
    options = PredictOptions(overwrite, features, overlay, tile, precision)
    task = TASKS[config.task]
    function = task.supported(task.predict, "predict", str(folder))
    return function(folder, config, inputs, Path(out), options, (lambda text: None) if quiet else print_plain)
