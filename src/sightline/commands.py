"""The commands that are neither the loop nor prediction: evaluate, report, recipes, demo, cache."""

import os
from pathlib import Path
from typing import Any

from . import runs
from .config import load_recipe_file, resolve, to_yaml
from .errors import SightlineError
from .files import read_json_lines
from .log import RunLog
from .recipes import RECIPES, documentation, load_recipe, summary
from .runs import Run


def evaluate(
    run: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None, split: str = "val", quiet: bool = False
) -> dict[str, Any]:
    """Numbers of a run's shipped weights on a split of its own data, or of `data`.

    On its own validation split this repeats the run's numbers exactly. Each look at a split named test is counted
    in the run. Predictions go to predictions/SPLIT.csv unless other data is named.
    """
    from .build import build_for_inference
    from .data.cache import decode
    from .data.sources import open_source
    from .evaluate import evaluate_checkpoints, write_predictions

    folder = runs.existing(run)
    say = (lambda text: None) if quiet else print
    config = load_recipe_file(folder / "recipe.yaml")
    if data is not None:
        config = resolve(config, {"data.path": os.fspath(data), "data.layout": "auto"})
    source = open_source(config.data, config.train.seed)
    if split not in source.splits:
        cure = f"--split {' or '.join(source.splits)}"
        raise SightlineError(f"there is no split {split!r}", where=source.path, cure=cure)
    decoded = decode(source, split, config.data.size, config.data, say)
    precision = runs.provenance(folder).get("precision", "auto")
    parts = build_for_inference(folder, config, precision)
    decoded = runs.with_classes(decoded, parts.classes, source.path)
    folders, size = runs.shipped_checkpoints(folder), config.train.eval_batch_size
    numbers, arrays = evaluate_checkpoints(parts.task, folders, decoded, size, parts.device, parts.dtype)
    if split.startswith("test"):
        looks = 1 + sum(r.get("event") == "test" for r in read_json_lines(folder / "metrics.jsonl"))
        RunLog(folder, quiet=True).event(
            "test", step=parts.step, epoch=parts.epoch, look=looks, split=split, path=source.path, **numbers
        )
        say(f"this is look {looks} at the test split; a number chosen after many looks is no longer a test")
    if data is None:
        write_predictions(folder / "predictions" / f"{split}.csv", decoded, arrays["probabilities"])
    return {"split": split, "images": len(decoded.names), **numbers}


def report(run: str | os.PathLike[str]) -> Path:
    """Draw a run's figures and its report.html again, from what lies in its folder."""
    from .report.page import write_report

    return write_report(runs.existing(run))


def recipes(name: str | None = None) -> str:
    """The shipped recipes, a line each; or one, resolved, as YAML with its docstring as comment."""
    if name is None:
        width = max(map(len, RECIPES))
        return "\n".join(f"{recipe:<{width}}  {summary(recipe)}" for recipe in RECIPES)
    config = load_recipe(name)
    head = "".join(f"# {line}".rstrip() + "\n" for line in documentation(name).splitlines()) if name in RECIPES else ""
    return head + to_yaml(config).rstrip()


def demo(*, out: str | os.PathLike[str] = "runs/demo", quiet: bool = False) -> Run:
    """Train a classifier on scikit-learn's digits, which need no download, and write its report."""
    from .train import train

    folder = Path(out)
    own = (folder / "recipe.yaml").is_file() and load_recipe_file(folder / "recipe.yaml").name == "digits"
    return train("digits", out=folder, overwrite=own, quiet=quiet)


def cache(*, clear: bool = False) -> str:
    """List the decoded images on disk, or remove them all."""
    from .data.cache import cache_clear, cache_list

    if clear:
        count, size = cache_clear()
        return f"removed {count} decoded sets, {size / 1e6:,.1f} MB"
    entries = cache_list()
    lines = [f"{entry.nbytes / 1e6:10,.1f} MB  {entry.images:>9,} images  {entry.source}" for entry in entries]
    return "\n".join(lines) if lines else "the cache is empty"
