"""`sightline report`: write the report of a run, a grid or a sweep again, or compare runs, from their files."""

import os
import shlex
from pathlib import Path

from .config.paths import path_of
from .errors import SightlineError
from .repeat.page import write_result as write_repetition
from .repeat.results import read_plan
from .repeat.versus import write_versus
from .report.compare.files import write_comparison
from .report.page import write_report
from .report.pdf import write_pdf
from .report.watch import serve
from .runs import run_folder
from .runs.terminal import print_plain
from .start.outcomes import MARK as START
from .start.results import write_again as write_start_again
from .transfer.grid import load_grid_file
from .transfer.output import write_grid_report
from .user_code import accepts_code


@accepts_code
def report(
    run: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    pdf: bool = False,
    watch: bool = False,
    port: int = 0,
    split: str = "val",
    code: str | os.PathLike[str] | None = None,
) -> Path:
    """Write figures and report.html of a run, a grid, a sweep, a start or a repetition again. Of several
    runs, or of several repetitions with the same folds, write a comparison.

    A comparison uses the validation images that the runs share, with paired intervals. What cannot be compared is left
    out, with a note. split: another split, on which `sightline evaluate` has evaluated all of the runs. out: the folder
    of the comparison, runs/compare by default. overwrite: replace a comparison of other runs there.

    pdf: also print the page to report.pdf, and return the path of that file. watch: serve the page of a run in progress
    on 127.0.0.1 and `port` (0: a free one) until Ctrl-C. Returns the path of the page.
    """
    if watch and (others or out is not None or overwrite or pdf or split != "val"):
        raise SightlineError(
            "--watch shows one run only",
            cure="list one run, without --out, --overwrite, --pdf and --split: sightline report RUN --watch",
        )
    if port and not watch:
        raise SightlineError("--port needs --watch", cure=f"sightline report RUN --watch --port {port}")
    if split == "train":
        why = "a comparison on images that the models were trained on says nothing about new ones"
        raise SightlineError("--split train is not possible", why=why, cure="compare on val, test or outer")
    folder = path_of(run)
    if watch:
        serve(folder, port)
        return folder / "report.html"
    if not others and split != "val":
        cure = f"evaluate it on this split: sightline evaluate {shlex.quote(str(folder))} --split {shlex.quote(split)}"
        raise SightlineError("--split is for a comparison of several runs", where=f"--split {split}", cure=cure)
    if not others and (out is not None or overwrite):
        why, cure = (
            "the report of a single run is always written to the folder of the run, where it replaces the earlier one",
            "leave out --out and --overwrite",
        )
        raise SightlineError("--out and --overwrite are for a comparison of several runs", why=why, cure=cure)
    if others:
        folders, there = [folder, *map(path_of, others)], path_of(out or "runs/compare")
        if all(read_plan(one) for one in folders) and split == "val":
            page, lines = write_versus(folders, there, overwrite)
        else:
            page, lines = write_comparison(folders, there, overwrite, split)
        if not quiet:
            print_plain("\n".join(lines))
    elif (folder / "grid.yaml").is_file():
        page = write_grid_report(folder, load_grid_file(folder / "grid.yaml")).report
    elif (folder / "sweep.yaml").is_file():
        from .sweep.report import write_sweep_report  # imports torch, which other reports do not need

        write_sweep_report(folder)
        page = folder / "report.html"
    elif (folder / START).is_file():
        page = write_start_again(folder)
    elif (plan := read_plan(folder)) is not None:
        page = write_repetition(folder, plan).report
    else:
        run_folder.require_writable(folder, "report")
        page = write_report(run_folder.existing(run))
    return write_pdf(page) if pdf else page
