"""Write a comparison: report.html, figures, compare.json (all numbers) and compare.csv (one row per run)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...config.paths import path_of
from ...errors import SightlineError
from ...insight.style import png
from ...runs.atomic import atomic_write, finite, remove, write_json
from ...runs.csv_io import csv_text
from .figures import plan_comparison
from .kinds import Comparison, RunPair
from .numbers import compare
from .page import comparison_page, sentences
from .runs import MARK

WRITTEN = ("report.html", "report.pdf", MARK, "compare.csv", "figures")


def write_comparison(
    runs: Sequence[str | Path], out: str | Path = "runs/compare", overwrite: bool = False, split: str = "val"
) -> tuple[Path, list[str]]:
    """Compare runs on a split and write the result to the folder `out`; returns (path of the page, lines to print).

    An existing comparison of the same runs is replaced. A comparison of other runs is replaced only with `overwrite`.
    Raises SightlineError if nothing can be compared, and if the folder has other content than a comparison.
    """
    folder = path_of(out)
    comparison = compare(runs, split)
    replaced = must_replace(folder, [entry.files.path for entry in comparison.entries], overwrite)
    figures = {name: png(draw()) for name, draw in plan_comparison(comparison).items()}
    if replaced:
        remove(folder / name for name in WRITTEN)
    write_json(folder / MARK, finite(as_values(comparison, folder)))  # first, so that the folder can be recognized
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "compare.csv", as_csv(comparison))
    links = [report_link(entry.files.path, folder) for entry in comparison.entries]
    page = atomic_write(folder / "report.html", comparison_page(comparison, figures, links))
    lines = [*sentences(comparison), *comparison.notes, *(note for pair in comparison.pairs for note in pair.notes)]
    return page, [*lines, *(f"to compare {one.name}: {one.cure}" for one in comparison.unpaired if one.cure)]


def must_replace(folder: Path, runs: Sequence[Path], overwrite: bool) -> bool:
    """Whether the folder has a comparison of other runs than `runs`, which must be removed before writing.

    Raises SightlineError if it has one and `overwrite` is False, and if the folder has other content than a comparison.
    """
    old = compared_runs(folder)
    require_own_folder(folder, old is not None and not (folder / "recipe.yaml").exists(), "comparison")
    if old is None or set(old) == {relative(run, folder) for run in runs}:
        return False
    if not overwrite:
        why, cure = (
            f"the comparison in the folder is of {', '.join(old)}",
            "choose another folder: --out FOLDER; or replace it with --overwrite",
        )
        raise SightlineError("the output folder has a comparison of other runs", where=str(folder), why=why, cure=cure)
    return True


def require_own_folder(folder: Path, own: bool, kind: str) -> None:
    """Raise SightlineError if the output folder is a file, or has content without earlier output of the same command.

    own: whether the folder has earlier output of the command. kind: name of that output ("sweep"), for the message.
    Hidden files are ignored.
    """
    if folder.exists() and not folder.is_dir():
        raise SightlineError("the output folder is a file", where=str(folder), cure="choose a folder: --out FOLDER")
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if names and not own:
        why = f"it contains {min(names)!r}, but no {kind}"
        what, cure = "the output folder is not empty", "choose another folder: --out FOLDER"
        raise SightlineError(what, where=str(folder), why=why, cure=cure)


def compared_runs(folder: Path) -> list[str] | None:
    """The paths of the runs in a folder's comparison, from compare.json; None if that file cannot be read."""
    try:
        values = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return [str(run["path"]) for run in values["runs"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def relative(path: Path, folder: Path) -> str:
    """The path of a run relative to the comparison's folder; absolute if they are on different drives.

    A relative path stays valid if run and comparison are moved together.
    """
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())


def report_link(run: Path, folder: Path) -> str:
    """The URL of a run's own report.html, relative to the comparison's folder; "" if the run has no report."""
    there = (run / "report.html").is_file()
    return quote(os.fsencode(f"{relative(run, folder)}/report.html")) if there else ""


def as_values(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """The content of compare.json: all numbers of a comparison."""
    field = comparison.kind.field
    return {
        "format": 2,
        "task": comparison.task,
        "metric": field,
        "correction": "Bonferroni",
        "split": comparison.reference.files.split,
        "reference": comparison.reference.name,
        "runs": [
            {
                "name": entry.name,
                "path": relative(entry.files.path, folder),
                "finished": entry.past.finished,
                field: entry.quality,
                "interval": entry.interval,
                "so_far": entry.so_far,
                "seconds": entry.seconds,
                "train_flops": entry.flops,
                "parameters": entry.parameters,
                "epochs": entry.epochs,
            }
            for entry in comparison.entries
        ],
        "comparisons": [pair_values(pair) for pair in comparison.pairs],
        "not_compared": [{"run": one.name, "why": one.why, "cure": one.cure} for one in comparison.unpaired],
        "recipes": {
            key: dict(zip([e.name for e in comparison.entries], values, strict=True))
            for key, values in comparison.recipes
        },
        "notes": [*comparison.notes, *(note for pair in comparison.pairs for note in pair.notes)],
    }


def pair_values(pair: RunPair) -> dict[str, Any]:
    """The numbers of one pair of runs, as an element of `comparisons` in compare.json."""
    numbers, names = pair.numbers, pair.results[0].classes
    classes = {
        measure: [
            {"class": name, **{key: column[row] for key, column in apart.items()}} for row, name in enumerate(names)
        ]
        for measure, apart in ((name, one._asdict()) for name, one in numbers.classes.items())
    }
    pair_of = {"first": pair.first, "second": pair.second, "images": pair.count}
    found: dict[str, Any] = {"difference": pair.difference, "interval": pair.interval, "level": pair.level, "p": pair.p}
    found |= {"p_corrected": pair.corrected, "agreement": numbers.agreement}
    return pair_of | found | {"sentence": pair.sentence, "classes": classes}


def as_csv(comparison: Comparison) -> bytes:
    """The content of compare.csv, one row per run: metric, difference to the reference, their intervals, p values,
    cost."""
    columns = ["run", comparison.kind.field, "low", "high", "difference", "difference_low", "difference_high", "p"]
    rows: list[list[str]] = [[*columns, "p_corrected", "seconds", "train_flops", "parameters", "epochs", "finished"]]
    for entry in comparison.entries:
        pair = comparison.pair_of(entry.name)
        own = [entry.quality, *(entry.interval or ("", ""))]
        apart = [pair.difference, *pair.interval, pair.p, pair.corrected] if pair else [""] * 5
        numbers = [*own, *apart, entry.seconds, entry.flops, entry.parameters, entry.epochs]
        rows.append([entry.name, *map(number_text, numbers), str(entry.past.finished).lower()])
    return csv_text(rows)


def number_text(value: float | str) -> str:
    """A number with nine significant digits; "" for NaN and for text."""
    return f"{value:.9g}" if isinstance(value, float | int) and value == value else ""
