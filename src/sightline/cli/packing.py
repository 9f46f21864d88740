"""The command `pack`."""

from pathlib import Path

from ..runs.terminal import print_path
from . import Settings, Whole, app


@app.command
def pack(
    data: str,
    out: Path,
    /,
    *,
    shard_mb: float = 256,
    resize: Whole = 0,
    seed: Whole = 0,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> None:
    """Write DATA as WebDataset shards into the folder OUT, for train --data OUT or for an HTTP server.

    After an interruption the same command continues. Settings of the data follow as --data.key VALUE, as of train.

    Parameters
    ----------
    data
        Whatever train takes as --data: classes, image-mask pairs (with --data.palette), or images without labels.
    out
        The folder for the shards and index.json.
    shard_mb
        Size of one shard in megabytes.
    resize
        Scale images down, once, to this many pixels of their shorter side, as JPEG of quality 95 (masks as PNG).
    seed
        Seed of the order of the samples in the shards.
    overwrite
        Replace another packed data set in OUT.
    quiet
        Print the folder only.
    """
    import sightline

    options = {"shard_mb": shard_mb, "resize": resize, "seed": seed, "overwrite": overwrite, "quiet": quiet}
    folder = sightline.pack(data, out, **options, **(settings or {}))
    if quiet:
        print_path(folder)
