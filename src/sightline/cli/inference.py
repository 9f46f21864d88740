"""Commands that use trained models: predict, export, serve, and Segment Anything masks."""

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import USER, SightlineError, some_of
from ..runs.terminal import print_path, print_plain
from . import Code, Flag, Integer, Quiet, Text, app

PRINTED, LIKELY = 20, 3
"""Number of images whose predictions are printed, and of classes that are named for each."""


@app.command(usage="Usage: sightline predict [OPTIONS] RUN IMAGES... [--out PATH]")
def predict(
    run: Path,
    /,
    *images: str,
    out: Path | None = None,
    overwrite: Flag = False,
    features: Flag = False,
    overlay: Flag = False,
    tile: Integer = 1024,
    precision: str = "fp32",
    format: Text = "",
    code: Code = None,
) -> None:
    """Predict images with a trained run: a classifier writes a table, a segmentation model a folder of masks.

    Without --out, the predictions of a few images are printed, for example: sightline predict runs/start/probe cat.jpg

    Repeat the command to resume an interrupted prediction.

    Example: sightline predict runs/photos_scratch new_photos/ --out predictions.csv

    Args:
        run: A run folder.
        images: Folders, image files, quoted patterns ('photos/**/*.jpg'), text files with one path per line, or - to
            read such a list from standard input.
        out: The table to write (.csv or .parquet), or the folder for masks. Without it, predictions are printed.
        overwrite: Replace existing output.
        features: Also write the penultimate features to NAME.features.npy; runs of pre-training write only these.
        overlay: Also draw over the images: the masks, or where a classifier found its class, in NAME.maps/.
        tile: Segmentation: predict images larger than this many pixels in overlapping tiles of this side.
        format: coco or labelstudio: write a JSON file that annotation programs import, --out FILE.json.
        precision: Tables: fp32 (as the results of the run), bf16, fp16, or auto (a 16-bit format where it is faster).
    """
    import sightline

    if not images:
        cure = "add a file or folder of images: sightline predict RUN IMAGES --out FILE.csv"
        raise SightlineError("no images are given to predict", why="the argument IMAGES is missing", cure=cure)
    require_order(run, images)
    print_plain(f"loading {run}", sys.stderr)  # importing torch takes seconds
    options: dict[str, Any] = {
        "features": features,
        "overlay": overlay,
        "tile": tile,
        "precision": precision,
        "format": format,
    }
    if out is None:
        if wrong := [name for name, value in options.items() if value not in (False, "", "fp32", 1024)]:
            cure = "add where to write: --out PATH"
            raise SightlineError(f"--{wrong[0]} has no effect on predictions that are printed", cure=cure)
        print_predictions(run, images, code)
        return
    print_path(sightline.predict(run, images, out=out, overwrite=overwrite, code=code, **options))


def require_order(run: Path, images: Sequence[str]) -> None:
    """Raise SightlineError if the images are named before the run."""
    runs = [one for one in images if (Path(one) / "recipe.yaml").is_file()]
    if runs and not (run / "recipe.yaml").is_file():
        others = [str(run), *(one for one in images if one != runs[0])]
        cure = f"name the run first: sightline predict {shlex.join([runs[0], *others])}"
        raise SightlineError("the first argument is not a run, but a later one is", where=str(run), cure=cure)


def print_predictions(run: Path, images: Sequence[str], code: Path | None) -> None:
    """Print the predictions of at most PRINTED images, one line for each."""
    import sightline

    from ..data.test_ledger import TestImages
    from ..inference.inputs import input_images
    from ..runs.run_folder import unfinished_note

    tests = TestImages()
    found = list(islice(tests.watched(input_images(images, Counter())), PRINTED + 1))
    if len(found) > PRINTED:
        cure = "write a table or masks: --out predictions.csv, or --out FOLDER for a segmentation model"
        raise SightlineError(f"more than {PRINTED} images are not printed", where=some_of(list(images)), cure=cure)
    model, unreadable = sightline.load(run, code=code), []
    if not model.classes:
        why = "the model has no classes"
        cure = shlex.join(["sightline", "predict", str(run), *images, "--features", "--out", "features.csv"])
        raise SightlineError(
            "this model predicts only features, which are not printed", where=str(run), why=why, cure=cure
        )
    if note := unfinished_note(run):
        print_plain(note, sys.stderr)
    for image in found:
        try:
            print_plain(f"{image.name}: {prediction_text(model.predict([image.path])[0], model.classes)}")
        except SightlineError as error:
            if error.status != USER or len(found) == 1:
                raise
            unreadable.append(image.name)
            print_plain(f"{image.name}: cannot be read: {error.why or error.what}")
    if look := tests.record("predict", model.run, images):
        print_plain(look, sys.stderr)
    if unreadable:
        what = f"{len(unreadable)} of {len(found)} images cannot be read"
        raise SightlineError(what, where=some_of(unreadable), cure="copy these files again, or do not name them")


def prediction_text(prediction: Any, classes: Sequence[str]) -> str:
    """A prediction in words: the label and the most likely classes, the shares of a mask, or a number."""
    import numpy as np

    if isinstance(prediction, float | np.floating):
        return f"{prediction:g}"
    mask = isinstance(prediction, np.ndarray)
    shares = np.bincount(prediction.ravel(), minlength=len(classes)) / prediction.size if mask else None
    values = prediction.probabilities if shares is None else shares
    likely = [index for index in np.argsort(-values, kind="stable")[:LIKELY] if values[index] >= 0.005]
    text = ", ".join(f"{classes[index]} {values[index]:.1%}" for index in likely)
    return f"pixels: {text}" if mask else f"{prediction.label or 'no label'} ({text})"


@app.command
def export(
    run: Path,
    /,
    *,
    format: str = "onnx",
    out: Path | None = None,
    data: str | None = None,
    int8: Flag = False,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
) -> None:
    """Export the trained model for use in other programs.

    Example: sightline export runs/photos_scratch --format onnx

    Args:
        run: A run folder.
        format: onnx writes a graph that includes resizing, normalization and class names; its predictions are
            compared with those of PyTorch on the validation images. safetensors writes a small run folder with
            weights and settings, for use with Sightline elsewhere.
        out: File or folder to write; RUN/export/model.onnx or RUN/export/safetensors by default.
        data: Current path of the run's data, if it was moved.
        int8: Also write a graph quantized to 8-bit integers, and measure the change in accuracy.
        overwrite: Replace an existing export.
    """
    import sightline

    options = {"out": out, "data": data, "int8": int8, "overwrite": overwrite, "quiet": quiet}
    print_path(sightline.export(run, format=format, code=code, **options))


@app.command(usage="Usage: sightline serve [OPTIONS] RUN [OTHERS...]")
def serve(
    run: Path,
    /,
    *others: Path,
    port: Integer | None = None,
    sam: Text = "",
    no_neighbors: Flag = False,
    max_mb: float = 32,
    quiet: Flag = False,
    code: Code = None,
) -> None:
    """Try one or several runs in a web page at 127.0.0.1, with a JSON API, until Ctrl-C.

    Example: sightline serve runs/photos_scratch

    Args:
        run: A run folder.
        others: Further runs, shown side by side.
        port: Port to listen on; 8000 by default, or a free one if that is in use.
        sam: A Segment Anything checkpoint (as for masks --model), to segment objects by points and boxes.
        no_neighbors: Do not show the most similar training images.
        max_mb: Largest accepted image file in megabytes.
        quiet: Print nothing.
    """
    import sightline

    options = {"port": port, "sam": sam, "max_mb": max_mb, "quiet": quiet}
    sightline.serve(run, *others, neighbors=not no_neighbors, code=code, **options)


@app.command(usage="Usage: sightline masks [OPTIONS] IMAGES... --out PATH")
def masks(
    *images: str,
    out: Path,
    model: str = "vit_b",
    points_per_side: Integer = 32,
    points_per_batch: Integer = 64,
    quality: float = 0.88,
    stability: float = 0.95,
    run: Path | None = None,
    truth: Path | None = None,
    download: Flag = False,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
) -> None:
    """Find the objects in images, without classes, using Segment Anything.

    Repeat the command to resume after an interruption.

    Example: sightline masks photos/ --out segments/ --download

    Args:
        images: Folders, image files, quoted patterns, or lists of paths, as for predict.
        out: Folder for the masks of each image, segments.html and segments.json.
        model: vit_b, vit_l or vit_h; a Hugging Face repository OWNER/NAME; or a folder written by save_pretrained.
        points_per_side: Masks are predicted at a grid of points; 32 is a grid of 32 x 32 points.
        points_per_batch: Points per forward pass; fewer need less memory.
        quality: Discard masks whose predicted IoU is lower than this; 0 keeps all.
        stability: Discard masks whose stability score is lower than this; 0 keeps all. The score is the IoU of the
            masks at a higher and a lower threshold.
        run: A segmentation run: refine its predicted masks, giving each segment the class of most of its pixels.
        truth: Folder of true masks: measure how much the refinement of --run helps.
        download: Download the checkpoint if it is not in the local cache.
        overwrite: Replace existing output.
    """
    import sightline

    if not images:
        cure = "add a file or folder of images: sightline masks IMAGES --out FOLDER"
        raise SightlineError("no images are given to segment", why="the argument IMAGES is missing", cure=cure)
    options: dict[str, Any] = {
        "model": model, "points_per_side": points_per_side, "points_per_batch": points_per_batch, "quality": quality,
        "stability": stability, "run": run, "truth": truth, "download": download,
    }  # fmt: skip
    print_path(sightline.masks(images, out=out, overwrite=overwrite, quiet=quiet, code=code, **options))
