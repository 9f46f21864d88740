"""`sightline report`: draw the page of a run, a grid, a sweep or a comparison again, from files alone."""

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import SightlineError
from .report.compare.files import write_comparison
from .report.page import write_report
from .report.pdf import write_pdf
from .report.watch import serve
from .runs import run_folder
from .runs.terminal import print_plain
from .transfer.grid import load_grid_file
from .transfer.results import write_grid_report


def report(
    run: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    pdf: bool = False,
    watch: bool = False,
    port: int = 0,
) -> Path:
    """Draw a run's figures and its report.html again, from what lies in its folder; of a grid or a sweep those of all.

    Of several runs, compare them: on the same validation images with paired intervals, in recipes, curves and cost.
    What is not comparable is said, and left out. out: the folder, runs/compare by default; overwrite: replace the
    comparison of other runs that lies there. pdf: print the page to report.pdf too, which is then what is returned.
    watch: serve the page of a run that goes on, on 127.0.0.1 and `port` (0: a free one), until Ctrl-C.
    """
    if watch:
        if others or out is not None or overwrite or pdf:
            raise SightlineError("--watch is for one run", cure="leave the other runs and options out")
        serve(Path(run), port)
        return Path(run) / "report.html"
    page = drawn_report(run, others, out, overwrite, quiet)
    if not pdf:
        return page
    return write_pdf(page)


def drawn_report(
    run: str | os.PathLike[str],
    others: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    overwrite: bool,
    quiet: bool,
) -> Path:
    """The page of a run, of a grid or of a comparison, drawn anew."""
    if others:
        path, lines = write_comparison([Path(one) for one in (run, *others)], Path(out or "runs/compare"), overwrite)
        if not quiet:
            print_plain("\n".join(lines))
        return path
    if out is not None or overwrite:
        why, cure = "the report of one run lies in its folder, and is drawn again as often as asked", "leave them out"
        raise SightlineError("--out and --overwrite belong to a comparison of several runs", why=why, cure=cure)
    if (Path(run) / "grid.yaml").is_file():
        return write_grid_report(Path(run), load_grid_file(Path(run) / "grid.yaml")).report
    if (Path(run) / "sweep.yaml").is_file():
        from .sweep.report import write_sweep_report  # loads torch, which other reports do without

        write_sweep_report(Path(run))
        return Path(run) / "report.html"
    return write_report(run_folder.existing(run))
