"""Commands for data sets: check, pack, and manage the cache of decoded images."""

import sys
from pathlib import Path
from typing import Any

from ..errors import FINDINGS
from ..runs.terminal import print_path, print_plain
from . import Code, Flag, Integer, Quiet, Settings, app


@app.command
def doctor(
    data: str,
    /,
    *,
    out: Path | None = None,
    weights: str = "",
    model: str = "",
    fix: Flag = False,
    overwrite: Flag = False,
    quiet: Quiet = False,
    code: Code = None,
    settings: Settings = None,
) -> int:
    """Check a data set before training: unreadable files, duplicates, leaks between splits, wrong labels.

    The exit status is 5 if there are findings. Takes the same --data.KEY options as train, such as --data.palette.

    Example: sightline doctor photos/

    Args:
        data: A data set, as for train --data; or a run folder, to find likely label errors in its validation images.
        out: Folder for doctor.html and doctor.json; runs/doctor by default, or RUN/doctor.
        weights: Also find labels that may be wrong, crops and mirror images, with the features of a network: pretrained
            (a download), a weight file, or a run folder.
        model: The network of the weights, such as timm/convnext_atto; timm/tf_efficientnet_lite0 by default, or the
            network of the run.
        fix: Also write clean.csv there, a table for train --data. It leaves out unreadable files, all but one of
            identical images, and identical images with different labels. Your files are not changed.
        overwrite: Replace an existing clean.csv.
    """
    if not quiet:
        print_plain(f"listing the images of {data}", sys.stderr)  # importing torch takes seconds
    from ..doctor import doctor as function

    options: dict[str, Any] = {"out": out, "weights": weights, "model": model, "fix": fix}
    options |= {"overwrite": overwrite, "quiet": quiet, "code": code}
    diagnosis = function(data, **options, **(settings or {}))
    if quiet:
        print_path(diagnosis.page)
    return FINDINGS if diagnosis.findings else 0


@app.command
def pack(
    data: str,
    out: Path,
    /,
    *,
    shard_mb: float = 256,
    resize: Integer = 0,
    seed: Integer = 0,
    overwrite: Flag = False,
    quiet: Quiet = False,
    settings: Settings = None,
) -> None:
    """Write a data set as WebDataset shards (tar files), for training from a folder or an HTTP server.

    Repeat the command to resume after an interruption. Takes the same --data.KEY options as train.

    Example: sightline pack photos/ shards/ --resize 256

    Args:
        data: A data set, as for train --data: classes, image-mask pairs (with --data.palette) or unlabeled images.
        out: Folder for the shards and index.json.
        shard_mb: Size of a shard in megabytes.
        resize: Shrink images whose shorter side is longer than this many pixels, as JPEG of quality 95 (masks as PNG);
            0 keeps all files unchanged.
        seed: Seed of the order of the samples.
        overwrite: Replace another packed data set in OUT.
    """
    import sightline

    options = {"shard_mb": shard_mb, "resize": resize, "seed": seed, "overwrite": overwrite, "quiet": quiet}
    folder = sightline.pack(data, out, **options, **(settings or {}))
    if quiet:
        print_path(folder)


@app.command
def cache(*, clear: Flag = False, folder: Path | None = None) -> None:
    """List the cached data sets of decoded images and their sizes, or delete them.

    Args:
        clear: Delete all cached data sets.
        folder: Folder of the cache, if data.cache_dir was set; ~/.cache/sightline or $SIGHTLINE_CACHE by default.
    """
    import sightline

    print_plain(sightline.cache(clear=clear, folder=folder))
