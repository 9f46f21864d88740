"""The commands that are neither the loop nor prediction: evaluate, report, recipes, demo, cache."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config.paths import absolute
from .config.resolve import load_recipe_file, resolve, to_yaml
from .errors import SightlineError
from .recipes import GRIDS, RECIPES, documentation, load_grid, load_recipe, summary
from .runs import run_folder
from .runs.atomic import read_json_lines
from .runs.log import RunLog
from .runs.run_folder import Run
from .runs.terminal import print_plain
from .transfer.grid import grid_yaml, load_grid_file

if TYPE_CHECKING:
    from .data.cache import Decoded
    from .data.sources.open import Source
    from .report.grid import GridResult

SCENES_TRAIN, SCENES_VAL, SCENES_SIDE = 80, 20, 128


def evaluate(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Numbers of a run's shipped weights on a split of its own data, or on `data`, with 95 % intervals.

    split: of the run's own data `val` by default, which repeats the run's numbers exactly; of other data the one that
    it has, or `val` of several. Data without splits is measured whole. Each look at a test split, and at other data,
    is counted in the run. Predictions of the run's own data go to predictions/SPLIT.csv.
    """
    from .data.cache import decode
    from .data.sources.open import open_source
    from .engine.evaluate import evaluate_checkpoints, write_predictions
    from .engine.memory import explained_memory
    from .tasks.classify.build import build_for_inference
    from .tasks.classify.task import classification_intervals

    folder = run_folder.existing(run)
    run_folder.require_weights(folder)
    say = (lambda text: None) if quiet else print_plain
    config = load_recipe_file(folder / "recipe.yaml")
    own = data is None or absolute(os.fspath(data)) == absolute(config.data.path)
    if not run_folder.is_finished(folder):
        say("this run is not finished: these are the numbers of its best weights so far")
    if own and split == "train":
        say("these images were trained on: the numbers say how well they are known, not how good the model is")
    if config.task == "byol":
        from .tasks.pretrain.evaluate import evaluate_backbone

        with explained_memory(config, f"{folder}/recipe.yaml"):
            return evaluate_backbone(folder, config, "" if own or data is None else os.fspath(data), split, say)
    if not own:
        config = resolve(config, {"data.path": os.fspath(data), "data.layout": "auto"})
    if config.task == "segment":
        from .tasks.segment.evaluate import evaluate_masks

        with explained_memory(config, f"{folder}/recipe.yaml"):
            return evaluate_masks(folder, config, own, split, say)
    source = open_source(config.data, config.data.split_seed, hold_out=own)
    for note in source.notes if not own else ():
        say(note)
    split = chosen_split(split, source)
    decoded = decode(source, split, config.data.size, config.data, say)
    known = run_folder.provenance(folder)
    if own and changed(known, split, decoded.digest):
        say(f"the images of {split} are no longer those that the run began with: its numbers will not repeat")
    with explained_memory(config, f"{folder}/recipe.yaml"):
        parts = build_for_inference(folder, config, run_folder.precision_of(folder))
        decoded = with_classes(decoded, parts.classes, source.path)
        folders, size = run_folder.shipped_checkpoints(folder), config.train.eval_batch_size
        numbers, arrays = evaluate_checkpoints(parts.task, folders, decoded, size, parts.device, parts.dtype)
    numbers |= classification_intervals(arrays, config.train.seed)
    if split.startswith("test") or not own:
        note_look(folder, parts.step, parts.epoch, split, source.path, numbers, say)
    if own:
        write_predictions(folder / "predictions" / f"{split}.csv", decoded, arrays["probabilities"])
    return {"split": split, "images": len(decoded.names), **numbers}


def note_look(
    folder: Path, step: int, epoch: int, split: str, path: str, numbers: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Count a look at a test split, or at other data, in the run's log."""
    earlier = [r for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") == "test"]
    look = 1 + sum((r.get("path"), r.get("split")) == (path, split) for r in earlier)
    place = {"look": look, "split": split, "path": path}
    RunLog(folder, quiet=True).event("test", step=step, epoch=epoch, **place, **numbers)
    say(f"this is look {look} at these images; a number chosen after many looks is no longer a test")


def chosen_split(split: str | None, source: "Source") -> str:
    """The split to measure: the one that was asked for, else `val`, else the only one that there is."""
    wanted = split or ("val" if "val" in source.splits or len(source.splits) > 1 else next(iter(source.splits)))
    if wanted not in source.splits:
        cure = " or ".join(f"--split {name}" for name in source.splits)
        raise SightlineError(f"there is no split {wanted!r}", where=source.path, cure=cure)
    return wanted


def changed(known: dict[str, Any], split: str, digest: str) -> bool:
    """Whether provenance.json knows another digest of a split's images."""
    data = known.get("data")
    digests = data.get("digest") if isinstance(data, dict) else None
    return isinstance(digests, dict) and split in digests and digests[split] != digest


def with_classes(decoded: "Decoded", classes: tuple[str, ...], where: str) -> "Decoded":
    """Data of other origin with its labels in the order of a run's classes, matched by name."""
    import numpy as np

    unknown = [name for name in decoded.classes if name not in classes]
    if unknown:
        why = "the run was not trained on: " + ", ".join(unknown[:10])
        cure = f"rename or remove those classes; the run knows: {', '.join(classes[:10])}{' ...' * (len(classes) > 10)}"
        raise SightlineError("the data has other classes than the run", where=where, why=why, cure=cure)
    if decoded.labels is None:
        cure = "`sightline predict` needs no labels"
        raise SightlineError("evaluation needs labels", where=where, cure=cure)
    order = np.array([classes.index(name) for name in decoded.classes])
    return replace(decoded, labels=order[decoded.labels], classes=classes)


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
        from .report.grid import write_grid_report

        return write_grid_report(Path(run), load_grid_file(Path(run) / "grid.yaml")).report
    if (Path(run) / "sweep.yaml").is_file():
        from .report.sweep import write_sweep_report

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
    from .report.grid import text_table
    from .train import train
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
