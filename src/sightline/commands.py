"""The commands that are neither the loop nor prediction: evaluate, report, recipes, demo, cache."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .config.files import load_recipe_file
from .config.resolve import to_yaml
from .errors import SightlineError
from .recipes import GRIDS, RECIPES, documentation, load_grid, load_recipe, summary
from .runs import run_folder
from .runs.run_folder import Run
from .runs.terminal import print_plain
from .transfer.grid import grid_yaml, load_grid_file

if TYPE_CHECKING:
    from .transfer.results import GridResult

SCENES_TRAIN, SCENES_VAL, SCENES_SIDE = 80, 20, 128


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
        from .report.watch import serve

        serve(Path(run), port)
        return Path(run) / "report.html"
    page = drawn_report(run, others, out, overwrite, quiet)
    if not pdf:
        return page
    from .report.pdf import write_pdf

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
        from .report.compare.files import write_comparison

        path, lines = write_comparison([Path(one) for one in (run, *others)], Path(out or "runs/compare"), overwrite)
        if not quiet:
            print_plain("\n".join(lines))
        return path
    if out is not None or overwrite:
        why, cure = "the report of one run lies in its folder, and is drawn again as often as asked", "leave them out"
        raise SightlineError("--out and --overwrite belong to a comparison of several runs", why=why, cure=cure)
    from .report.page import write_report

    if (Path(run) / "grid.yaml").is_file():
        from .transfer.results import write_grid_report

        return write_grid_report(Path(run), load_grid_file(Path(run) / "grid.yaml")).report
    if (Path(run) / "sweep.yaml").is_file():
        from .sweep.report import write_sweep_report

        write_sweep_report(Path(run))
        return Path(run) / "report.html"
    return write_report(run_folder.existing(run))


def recipes(name: str | None = None) -> str:
    """The shipped recipes, a line each; or one, resolved, as YAML with its docstring as comment."""
    if name is None:
        shipped = [*RECIPES, *GRIDS]
        width = max(map(len, shipped))
        return "\n".join(f"{recipe:<{width}}  {summary(recipe)}" for recipe in shipped)
    text = grid_yaml(load_grid(name)) if name in GRIDS else to_yaml(load_recipe(name))
    lines = documentation(name).splitlines() if name in RECIPES or name in GRIDS else []
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + text.rstrip()


def demo(*, out: str | os.PathLike[str] = "runs/demo", quiet: bool = False) -> "list[Run | GridResult]":
    """Train on data that needs no download: a classifier on scikit-learn's digits, a segmenter on synthetic scenes,
    and a transfer grid, from the digits 0 to 4 to a few labeled ones of 5 to 9.

    They are OUT/digits, OUT/scenes and OUT/transfer; what they train on, OUT/scenes-data and OUT/digits-data.
    """
    from .data.builtin import write_digits
    from .data.scenes import write_scenes
    from .train import train
    from .transfer.results import text_table
    from .transfer.run import transfer

    folder = Path(out)
    own = {"digits", "scenes", "transfer", "scenes-data", "digits-data"}
    strangers = folder.is_dir() and set(os.listdir(folder)) - own
    if strangers or (folder.exists() and not folder.is_dir()):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another with --out")
    say = (lambda text: None) if quiet else print_plain
    done: list[Run | GridResult] = []
    for name in ("digits", "scenes"):
        data = None
        if name == "scenes":
            data = write_scenes(folder / "scenes-data", SCENES_TRAIN, SCENES_VAL, size=SCENES_SIDE, seed=0)
            say(f"\ndrew {SCENES_TRAIN + SCENES_VAL} synthetic land-cover scenes: {data}")
        place = folder / name
        again = (place / "recipe.yaml").is_file() and load_recipe_file(place / "recipe.yaml").name == name
        done.append(train(name, data, out=place, overwrite=again, quiet=quiet))
    digits = write_digits(folder / "digits-data")
    say("\ndoes pre-training pay? five ways to a classifier of the digits 5 to 9, ten labeled images of each:")
    source = digits / "pretrain"
    grid = transfer(
        "transfer_digits",
        digits / "target",
        unlabeled=source / "images",
        labeled=source / "labels.csv",
        out=folder / "transfer",
        overwrite=True,
        quiet=True,
    )
    say(text_table(grid))
    return [*done, grid]


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """(a command that can be typed as it is, what it does) of what one does next with the demo in `folder`."""
    place = shlex.quote(str(folder))
    return [
        (f"sightline doctor {place}/scenes-data --out {place}-doctor", "what is wrong with data, before any training"),
        (f"sightline predict {place}/digits {place}/digits-data/target --out guesses.csv", "use a classifier"),
        (f"sightline predict {place}/scenes {place}/scenes-data/validation --out masks/", "use a segmenter"),
        (f"sightline serve {place}/digits", "try it in a page, on this machine"),
        (f"sightline export {place}/digits --format onnx", "take it elsewhere"),
        (f"sightline report {place}/transfer/A-0 {place}/transfer/C-0", "compare runs"),
        ("sightline recipes", "train on your own pictures: sightline train photos_scratch --data photos/"),
    ]


def cache(*, clear: bool = False, folder: str | os.PathLike[str] | None = None) -> str:
    """List the decoded images on disk, or remove them all. folder: a `data.cache_dir`; None: the usual place."""
    from .data.cache import cache_clear, cache_list

    root = Path(folder) if folder is not None else None
    if root is not None and not root.is_dir():
        raise SightlineError("there is no such folder", where=str(root), cure="the folder that data.cache_dir named")
    if clear:
        count, size = cache_clear(root)
        return f"removed {count} decoded sets, {size / 1e6:,.1f} MB"
    entries = cache_list(root)
    lines = [f"{entry.nbytes / 1e6:10,.1f} MB  {entry.images:>9,} images  {entry.source}" for entry in entries]
    return "\n".join(lines) if lines else "the cache is empty"
