"""The commands that use what was trained."""

from pathlib import Path

from ..errors import SightlineError
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
    """
    import sightline

    if not images:
        cure = "sightline predict RUN IMAGES --out FILE.csv"
        raise SightlineError("no images were named", why="IMAGES is missing", cure=cure)
    print(sightline.predict(run, images, out=out, overwrite=overwrite, features=features, overlay=overlay, tile=tile))


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
    """Write a run's model for other programs, checked on its validation images.

    Parameters
    ----------
    format
        onnx: a graph with resize, normalization, class names and probabilities inside. safetensors: a folder with the
        weights and a script that loads them without Sightline.
    out
        The file or folder; by default RUN/export/model.onnx or RUN/export/safetensors.
    data
        Where the run's data lies now, if it has moved.
    int8
        Also a graph of 8-bit integers, with the accuracy that it costs.
    overwrite
        Replace what is there.
    quiet
        Print the path only.
    """
    import sightline

    options = {"out": out, "data": data, "int8": int8, "overwrite": overwrite, "quiet": quiet}
    print(sightline.export(run, format=format, **options))
