"""Commands that measure and compare: evaluate, score, runs, report."""

import shutil
import sys
from json import dumps
from pathlib import Path

from ..errors import SightlineError
from ..runs.terminal import print_path, print_plain
from . import Code, Flag, Integer, Settings, Text, app

OF_SCORE = ("palette", "colors", "classes", "merge", "ignore", "tolerance", "threshold")
OF_SCORE += ("group", "on_unpaired", "max_pixels")
"""The settings of `data` that a score of masks uses."""


@app.command
def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    split: str | None = None,
    code: Code = None,
    settings: Settings = None,
) -> None:
    """Compute the metrics of a trained run, with 95 % confidence intervals.

    How other data are read can be set by the --data.KEY options of train, such as --data.layout.

    Example: sightline evaluate runs/photos_scratch --data test_photos/

    Args:
        run: A run folder. Without options its validation metrics are computed again.
        data: Another labeled data set; without splits, all of its images are used.
        split: The split to measure, for example val or test; val by default.
    """
    import sightline

    numbers = sightline.evaluate(run, data=data, split=split, code=code, **(settings or {}))
    width = max(len(name) for name in numbers if not name.endswith("_interval"))
    for name, value in numbers.items():
        if name.endswith("_interval"):
            continue
        low, high = numbers.get(f"{name}_interval", (None, None))
        interval = f"  [{low:.4f}, {high:.4f}]" if low is not None and low == low else ""
        text = f"{value:.6f}{interval}" if isinstance(value, float) else str(value)
        print_plain(f"{name:<{width}}  {'not defined for these images' if value is None or value != value else text}")


@app.command
def score(*, truth: Path, pred: Path, palette: Text = "", settings: Settings = None) -> None:
    """Compare predicted mask files with true masks: mean IoU with its 95 % interval, and the IoU of each class.

    No model is needed. Other mask settings follow as --data.KEY VALUE, for example --data.colors, --data.ignore, or
    --data.on_unpaired leave_out to score the masks of some images against the true masks of all.

    Example: sightline score --truth masks/ --pred predicted/ --palette landcover

    Args:
        truth: Folder of true masks.
        pred: Folder of predicted masks with the same file names.
        palette: Meaning of the pixel values: landcover, camvid or binary; without it, class indices whose names
            are in classes.txt or in --data.classes.
    """
    from ..config.resolve import resolve
    from ..config.schema import Config
    from ..tasks.segment.score import score as function
    from ..tasks.segment.score import text

    if palette and "data.palette" in (settings or {}):
        what = "--palette and --data.palette are both given"
        raise SightlineError(what, where="the command line", cure="leave one of them out")
    data = resolve(Config(), (settings or {}) | ({"data.palette": palette} if palette else {})).data
    if odd := [key for key in settings or {} if key.split(".")[1] not in OF_SCORE]:
        cure = f"leave them out; it has --data. with {', '.join(OF_SCORE)}"
        raise SightlineError("these settings do not apply to the score of masks", where=", ".join(odd), cure=cure)
    print_plain(text(function(truth, pred, data, say=lambda line: print_plain(line, sys.stderr))))


@app.command
def runs(folder: Path = Path("runs"), /, *, json: Flag = False) -> None:
    """List the runs below a folder, newest first: data, metric with its 95 % interval, minutes, and state.

    A run is finished, running, stopped before its last evaluation, interrupted, or failed, which means that its loss
    was not finite. `sightline resume RUN` continues stopped and interrupted ones.

    Example: sightline runs runs/ --json

    Args:
        folder: The folder to search.
        json: Print a JSON list with all fields in place of the table.
    """
    from ..report.compare.listing import as_json, runs_below, table

    found = runs_below(folder)
    if json:
        print_plain(dumps([as_json(run) for run in found], indent=2))
    elif found:
        print_plain(table(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    else:
        print_plain(f"no runs below {folder}; to train one: sightline start DATA --minutes 10", sys.stderr)


@app.command(usage="Usage: sightline report [OPTIONS] RUN [OTHERS...]")
def report(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    overwrite: Flag = False,
    quiet: Flag = False,
    pdf: Flag = False,
    watch: Flag = False,
    port: Integer = 0,
    split: str = "val",
    code: Code = None,
) -> None:
    """Write the HTML report of a run again, or compare several runs.

    With one run, RUN/report.html is drawn again from the files in its folder. With several, each is compared with the
    first, on the same validation images.

    Example: sightline report runs/a runs/b

    Args:
        run: A run folder, or the folder of a transfer grid, a sweep or a start.
        others: Runs of the same task to compare with the first.
        out: Folder of the comparison; runs/compare by default.
        overwrite: Replace a comparison of other runs in that folder.
        quiet: Print only the path of the report.
        pdf: Also write report.pdf. Needs Chromium or Chrome.
        watch: Serve the report of a run in progress at 127.0.0.1 until Ctrl-C.
        port: Port for --watch; 0 chooses a free one.
        split: Split on which runs are compared; for others than val, run `sightline evaluate RUN --split NAME` first.
    """
    import sightline

    options = {"out": out, "overwrite": overwrite, "quiet": quiet, "pdf": pdf, "watch": watch, "port": port}
    options["split"] = split
    page = sightline.report(run, *others, code=code, **options)
    if not watch:
        print_path(page)
