"""Where a comparison goes: report.html, figures, compare.json with every number, compare.csv with a row a run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import SightlineError
from ...insight.style import png
from ...runs.atomic import atomic_write, finite, remove, write_json
from ...runs.csv_io import csv_text
from .figures import plan_comparison
from .kinds import Comparison
from .numbers import compare
from .page import comparison_page, sentences
from .runs import MARK

WRITTEN = ("report.html", "report.pdf", MARK, "compare.csv", "figures")


def write_comparison(
    runs: Sequence[str | Path], out: str | Path = "runs/compare", overwrite: bool = False
) -> tuple[Path, list[str]]:
    """Compare runs into the folder `out`; returns its page, and what is to be said on a terminal.

    A comparison of the same runs that lies there is drawn again; one of others only with `overwrite`. Raises
    SightlineError where nothing can be compared, and where the folder is somebody else's.
    """
    folder = Path(out)
    found = compare(runs)
    others = holds_another(folder, [entry.files.path for entry in found.entries], overwrite)
    masks = found.kind.masks(found) if found.kind.masks else None
    figures = {name: png(draw()) for name, draw in plan_comparison(found, masks).items()}
    if others:
        clear(folder)
    write_json(folder / MARK, finite(as_values(found, folder)))  # first: the folder is then known as a comparison's
    for name, data in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", data)
    atomic_write(folder / "compare.csv", as_csv(found))
    links = [own_report(entry.files.path, folder) for entry in found.entries]
    page = atomic_write(folder / "report.html", comparison_page(found, masks, figures, links))
    said = [*sentences(found), *found.notes, *(note for pair in found.pairs for note in pair.notes)]
    cures = [f"what helps {one.name}: {one.cure}" for one in found.refused if one.cure]
    return page, [*said, *cures]


def holds_another(folder: Path, runs: Sequence[Path], overwrite: bool) -> bool:
    """Whether a comparison of other runs lies in the folder, and may go.

    SightlineError where it may not, and where a new one would come among a stranger's files.
    """
    if folder.exists() and not folder.is_dir():
        raise SightlineError("the folder is a file", where=str(folder), cure="choose another with --out")
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if not visible:
        return False
    old = read_mark(folder)
    if old is None or (folder / "recipe.yaml").exists():
        why = f"it holds {min(path.name for path in visible)!r} and no comparison"
        raise SightlineError("this folder is not empty", where=str(folder), why=why, cure="choose another with --out")
    if set(old) == {relative(run, folder) for run in runs}:
        return False
    if not overwrite:
        why, cure = f"it is of {', '.join(old)}", "choose another --out, or --overwrite"
        raise SightlineError("another comparison lies here", where=str(folder), why=why, cure=cure)
    return True


def clear(folder: Path) -> None:
    """Remove what an earlier comparison wrote into the folder, and nothing else."""
    remove(folder / name for name in WRITTEN)


def read_mark(folder: Path) -> list[str] | None:
    """The runs of the comparison that lies in a folder, as it names their places; None where there is none."""
    try:
        values = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return [str(run["path"]) for run in values["runs"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def relative(path: Path, folder: Path) -> str:
    """A run's place seen from the comparison's folder, so that both may move together."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())


def own_report(run: Path, folder: Path) -> str:
    """The address of a run's own page; "" where it has none."""
    there = (run / "report.html").is_file()
    return quote(os.fsencode(f"{relative(run, folder)}/report.html")) if there else ""


def as_values(found: Comparison, folder: Path) -> dict[str, Any]:
    """All numbers of a comparison, for compare.json."""
    field = found.kind.field
    return {
        "format": 1,
        "task": found.task,
        "metric": field,
        "reference": found.reference.name,
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
            for entry in found.entries
        ],
        "comparisons": [
            {
                "first": pair.first,
                "second": pair.second,
                "images": pair.items,
                "difference": pair.difference,
                "interval": pair.interval,
                "p": pair.p,
                "p_holm": pair.holm,
                "sentence": pair.sentence,
                "agreement": pair.agreement,
                "classes": {
                    measure: [
                        {"class": name, **{key: values[row] for key, values in apart._asdict().items()}}
                        for row, name in enumerate(pair.answers[0].classes)
                    ]
                    for measure, apart in pair.classes.items()
                },
            }
            for pair in found.pairs
        ],
        "not_compared": [{"run": one.name, "why": one.why, "cure": one.cure} for one in found.refused],
        "recipes": {
            key: dict(zip([e.name for e in found.entries], values, strict=True)) for key, values in found.recipes
        },
        "notes": [*found.notes, *(note for pair in found.pairs for note in pair.notes)],
    }


def as_csv(found: Comparison) -> bytes:
    """A row a run: its quality with its interval, the difference to the reference with its own, p, and the cost."""
    columns = ["run", found.kind.field, "low", "high", "difference", "difference_low", "difference_high", "p"]
    rows: list[list[str]] = [[*columns, "p_holm", "seconds", "train_flops", "parameters", "epochs", "finished"]]
    for entry in found.entries:
        pair = found.pair_of(entry.name)
        own = [entry.quality, *(entry.interval or ("", ""))]
        apart = [pair.difference, *pair.interval, pair.p, pair.holm] if pair else [""] * 5
        numbers = [*own, *apart, entry.seconds, entry.flops, entry.parameters, entry.epochs]
        rows.append([entry.name, *map(plain, numbers), str(entry.past.finished).lower()])
    return csv_text(rows)


def plain(value: float | str) -> str:
    """A number with nine digits; empty where there is none."""
    return f"{value:.9g}" if isinstance(value, float | int) and value == value else ""
