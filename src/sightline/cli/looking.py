"""The commands that look at data and at what was trained."""

import math
import sys
from pathlib import Path

from ..errors import FINDINGS
from ..runs.terminal import print_path, print_plain
from . import Settings, Whole, app


@app.command
def doctor(
    data: str,
    /,
    *,
    out: Path = Path("runs/doctor"),
    write_clean_list: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """What is wrong with DATA, before any training; of a run, which labels are likely wrong. Status 5: findings.

    Settings of the data follow as --data.key VALUE, as of train.

    Parameters
    ----------
    data
        Whatever train takes as --data; or a run, whose validation labels are checked.
    out
        The folder for doctor.html and doctor.json.
    write_clean_list
        A CSV for train --data, without unreadable files, copies and pictures of several labels.
    overwrite
        Replace that CSV.
    quiet
        Print the page's path only.
    """
    from ..doctor import doctor as function

    options = {"out": out, "write_clean_list": write_clean_list, "overwrite": overwrite, "quiet": quiet}
    found = function(data, **options, **(settings or {}))
    if quiet:
        print_path(found.page)
    return FINDINGS if found.findings else 0


@app.command
def evaluate(run: Path, /, *, data: str | None = None, split: str | None = None) -> None:
    """Repeat a run's validation numbers, or measure it on other data; with 95 % intervals.

    Parameters
    ----------
    data
        Other labeled data; all of it is measured where it has no splits.
    split
        Which split; of the run's own data, val by default.
    """
    import sightline

    numbers = sightline.evaluate(run, data=data, split=split)
    for name, value in numbers.items():
        if name.endswith("_interval"):
            continue
        low, high = numbers.get(f"{name}_interval", (None, None))
        known = low is not None and math.isfinite(low)  # one image has no interval
        interval = f"  [{low:.4f}, {high:.4f}]" if known else ""
        print_plain(f"{name:<18} {value:.6f}{interval}" if isinstance(value, float) else f"{name:<18} {value}")


@app.command
def score(*, truth: Path, pred: Path, palette: str = "", settings: Settings = None) -> None:
    """Score masks on disk against true masks, with no model: mean IoU with its interval, class by class.

    Parameters
    ----------
    truth
        Folder of the true masks.
    pred
        Folder of the predicted masks, of the same names.
    palette
        landcover, camvid or binary; class ids otherwise. --data.colors, --data.ignore and the like follow as settings.
    """
    from ..config.resolve import resolve
    from ..config.schema import Config
    from ..tasks.segment.score import score as function
    from ..tasks.segment.score import text

    data = resolve(Config(), (settings or {}) | ({"data.palette": palette} if palette else {})).data
    print_plain(text(function(truth, pred, data, say=lambda line: print_plain(line, sys.stderr))))


@app.command
def report(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    pdf: bool = False,
    watch: bool = False,
    port: Whole = 0,
) -> None:
    """Draw the report of a run, or of a transfer grid, again, from what lies in its folder; of several runs, compare.

    Parameters
    ----------
    run
        A run, or a transfer grid.
    others
        Runs of the same task; each is compared with the first.
    out
        The folder of a comparison; runs/compare by default.
    overwrite
        Replace the comparison of other runs that the folder holds.
    quiet
        Print the page's path only.
    pdf
        Print the page to report.pdf too, with a Chromium or Chrome of this machine.
    watch
        Serve the page of a run that goes on, on this machine only, until Ctrl-C.
    port
        Where --watch serves; a free one by default.
    """
    import sightline

    options = {"out": out, "overwrite": overwrite, "quiet": quiet, "pdf": pdf, "watch": watch, "port": port}
    page = sightline.report(run, *others, **options)
    if not watch:
        print_path(page)


@app.command
def cache(*, clear: bool = False, folder: Path | None = None) -> None:
    """Show what the cache of decoded images holds; --clear removes it.

    Parameters
    ----------
    folder
        Where it lies, if not at its usual place: what data.cache_dir was set to.
    """
    import sightline

    print_plain(sightline.cache(clear=clear, folder=folder))
