"""The commands that use what was trained."""

from pathlib import Path
from typing import Any

from ..errors import SightlineError
from ..runs.terminal import print_path
from . import Whole, app


@app.command
def predict(
    run: Path,
    /,
    *images: str,
    out: Path,
    overwrite: bool = False,
    features: bool = False,
    overlay: bool = False,
    tile: Whole = 1024,
    precision: str = "run",
) -> None:
    """Classify images into a table, or segment a folder of them into a folder of masks.

    IMAGES: folders, images, patterns in quotes ('photos/**/*.jpg'), lists (.txt, one path a line), or - for a list on
    standard input. The same command goes on with a table that was interrupted.

    Parameters
    ----------
    out
        The table of a classifier, .csv or .parquet, or the folder for the masks of a segmenter.
    overwrite
        Replace what is there.
    features
        Also the penultimate features, into NAME.features.npy; of a pre-training these alone.
    overlay
        Segmentation: also the masks laid over the images.
    tile
        Segmentation: images larger than this many pixels are predicted in overlapping tiles.
    precision
        Classification: run, the one it was trained in; auto, the faster one here; fp32; bf16.
    """
    import sightline

    if not images:
        cure = "sightline predict RUN IMAGES --out FILE.csv"
        raise SightlineError("no images were named", why="IMAGES is missing", cure=cure)
    options: dict[str, Any] = {"features": features, "overlay": overlay, "tile": tile, "precision": precision}
    print_path(sightline.predict(run, images, out=out, overwrite=overwrite, **options))


@app.command
def export(
    run: Path,
    /,
    *,
    format: str = "onnx",
    out: Path | None = None,
    data: str | None = None,
    int8: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Write a run's model for other programs.

    Parameters
    ----------
    format
        onnx: a graph with resize, normalization, class names and probabilities, checked on the validation images.
        safetensors: a small run folder with weights and settings, for other installations of Sightline.
    out
        The file or folder; by default RUN/export/model.onnx or RUN/export/safetensors.
    data
        The present path of the run's data, if it was moved.
    int8
        Also write a graph of 8-bit integers, with its measured loss of accuracy.
    overwrite
        Replace an existing export.
    quiet
        Print the path only.
    """
    import sightline

    options = {"out": out, "data": data, "int8": int8, "overwrite": overwrite, "quiet": quiet}
    print_path(sightline.export(run, format=format, **options))


@app.command
def serve(
    run: Path,
    /,
    *others: Path,
    port: Whole | None = None,
    sam: str = "",
    no_neighbors: bool = False,
    max_mb: float = 32,
    quiet: bool = False,
) -> None:
    """Try one run, or several side by side, in a web page on this machine, until Ctrl-C; programs get JSON.

    Parameters
    ----------
    port
        8000, or a free one if that is taken.
    sam
        A Segment Anything checkpoint, for masks of points and boxes.
    no_neighbors
        Leave out the nearest training images.
    max_mb
        Limit of an image file in megabytes.
    quiet
        Print nothing.
    """
    import sightline

    options = {"port": port, "sam": sam, "max_mb": max_mb, "quiet": quiet}
    sightline.serve(run, *others, neighbors=not no_neighbors, **options)


@app.command
def masks(
    *images: str,
    out: Path,
    model: str = "vit_b",
    points_per_side: Whole = 32,
    points_per_batch: Whole = 64,
    quality: float = 0.88,
    stability: float = 0.95,
    run: Path | None = None,
    truth: Path | None = None,
    download: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Find everything in pictures that belongs together, without classes, with Segment Anything.

    IMAGES: as of predict. The same command goes on after an interruption.

    Parameters
    ----------
    out
        The folder for the masks of each picture, segments.html and segments.json.
    model
        vit_b, vit_l, vit_h; OWNER/NAME of the Hugging Face hub; or a folder that save_pretrained wrote.
    points_per_side
        The grid of points that are asked for masks has so many a side.
    points_per_batch
        So many points at once: fewer need less memory.
    quality
        Keep masks whose IoU the model predicts to be higher; 0 keeps all.
    stability
        Keep masks that change less than this allows when their threshold moves; 0 keeps all.
    run
        A segmenter's run: its masks are cleaned up, each segment gets the class of most of its pixels.
    truth
        True masks: what the clean-up is worth.
    download
        Fetch a checkpoint that is not on this machine.
    overwrite
        Replace what is there.
    quiet
        Print the path only.
    """
    import sightline

    if not images:
        raise SightlineError("no images were named", why="IMAGES is missing", cure="sightline masks IMAGES --out DIR")
    done = sightline.masks(
        images,
        out=out,
        model=model,
        points_per_side=points_per_side,
        points_per_batch=points_per_batch,
        quality=quality,
        stability=stability,
        run=run,
        truth=truth,
        download=download,
        overwrite=overwrite,
        quiet=quiet,
    )
    print_path(done)
