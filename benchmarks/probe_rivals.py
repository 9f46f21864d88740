"""Compare the seconds of a linear classifier on frozen features by `sightline train photos_probe` and by other tools.

    python benchmarks/rivals.py probe --envs FOLDER --pictures PHOTOS --weights FILE --tune  # first: choose settings
    python benchmarks/rivals.py probe --envs FOLDER --pictures PHOTOS --weights FILE --json probe.json

PHOTOS has one folder for each class, or files named CLASS_ID. Images are taken from all classes in turn; the held-out
images chose nothing. Every tool loads the same weight file, and `file` sets the size of JPEG files that the images are
converted to; by default they are copied. The scripts in rivals/probe_*.py describe the differences of each tool.

Seconds are those of the whole process, with imports and the accuracy on the held-out images; for Sightline with its
report. "First" starts with an empty cache of Sightline, "second" repeats the command with the features in its cache.
The other tools store no features, so they run once for both. Runs alternate, and a ratio is to the runs next to it.
"""

import argparse
import hashlib
import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from environments import (
    WORKERS,
    environment,
    run_worker,
    sightline_path,
    store_settings,
    stored_settings,
    worker_environment,
)
from machine import list_images, machine_info, machine_line, median_range, write_results
from sightline.recipes import RECIPES


@dataclass(frozen=True)
class ProbeRival:
    """A tool: its script in rivals/, the packages of its environment, and the precisions that it can be run with."""

    worker: str
    environment: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]


ALL = ("fp32", "fp32 channels_last", "bf16", "bf16 channels_last")
RIVALS = {
    "timm + scikit-learn": ProbeRival("probe_timm.py", "timm-probe", ("timm", "scikit-learn"), ALL),
    "fastai": ProbeRival("probe_fastai.py", "fastai-probe", ("fastai", "timm"), ALL[:2]),
    "LightlyTrain": ProbeRival("probe_lightly_train.py", "lightly-probe", ("lightly-train", "timm"), ("fp32", "bf16")),
}
START = {"workers": 0, "batch": 128, "precision": "fp32"}
TUNED = {"workers": (0, 1, 2), "batch": (32, 128, 256)}


def by_class(folder: str) -> dict[str, list[Path]]:
    """The image files by class: the folder of the file, or the part of its name before the last `_` if all files are
    in one folder. Of files with equal bytes, only the first is used."""
    paths = list_images(folder)
    flat = len({path.parent for path in paths}) == 1
    found: dict[str, list[Path]] = {}
    seen: set[bytes] = set()
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest not in seen:
            seen.add(digest)
            found.setdefault(path.stem.rpartition("_")[0] if flat else path.parent.name, []).append(path)
    if len(found) < 2:
        raise SystemExit(f"{folder} has fewer than two classes: give a folder of class folders, or of files CLASS_ID")
    return found


def write_photographs(folder: Path, options: argparse.Namespace) -> dict[str, int]:
    """Write the training and held-out images to class folders below train/ and val/; return their numbers."""
    classes = by_class(options.pictures)
    for name in sorted(classes):
        random.Random(name).shuffle(classes[name])
    turns = itertools.zip_longest(*(classes[name] for name in sorted(classes)))
    rows = [
        (name, path) for turn in turns for name, path in zip(sorted(classes), turn, strict=True) if path is not None
    ]
    counts = {"val": options.held_out, "train": options.images}
    if len(rows) < sum(counts.values()):
        raise SystemExit(f"{options.pictures} has {len(rows):,} different images; {sum(counts.values()):,} are needed")
    for split, count in counts.items():
        for index, (name, path) in enumerate(rows[:count]):
            target = folder / split / name / f"{index:05}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if options.file:
                with Image.open(path) as opened:
                    resized = opened.convert("RGB").resize(options.file, Image.Resampling.BICUBIC)
                resized.save(target.with_suffix(".jpg"), quality=90)
            else:
                shutil.copyfile(path, target)
        rows = rows[count:]
    return counts


class ProbeBench:
    """Runs Sightline and the other tools on the same images."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder, self.out = options, folder, folder / "out"
        self.weights = str(Path(options.weights).absolute())
        self.out.mkdir()

    def run_rival(self, name: str, python: Path, chosen: dict[str, Any], **more: Any) -> dict[str, Any] | None:
        """Return the seconds and the accuracy of a tool; print a message and return None if it fails."""
        shutil.rmtree(self.out / "rival", ignore_errors=True)
        (self.out / "rival").mkdir()
        recipe = RECIPES["photos_probe"]()
        settings = {
            **{"data": str(self.folder / "data"), "out": str(self.out / "rival"), "model": self.options.model},
            **{"weights": self.weights, "size": self.options.size, "threads": self.options.threads},
            **{"penalties": recipe.optim.decay_choices, "epochs": self.options.epochs, "features_only": False},
            **chosen,
            **more,
        }
        command = [str(python), str(WORKERS / RIVALS[name].worker), json.dumps(settings)]
        env = worker_environment(self.options.threads, self.out / "cache")
        start = time.perf_counter()
        result = run_worker(f"{name} with {chosen}", command, env, self.out / "rival")
        return result and {"seconds": time.perf_counter() - start, "command": command, **result}

    def run_sightline(self, first: bool) -> dict[str, Any]:
        """Return the seconds and the accuracy of `sightline train photos_probe`. first: empty its cache before."""
        if first:
            shutil.rmtree(self.out / "cache", ignore_errors=True)
        run = self.out / "run"
        shutil.rmtree(run, ignore_errors=True)
        settings = {
            **{"data.size": self.options.size, "model.name": self.options.model, "model.weights": self.weights},
            **{"train.threads": self.options.threads},
        }
        command = [sys.executable, "-m", "sightline", "train", "photos_probe", "--data", str(self.folder / "data")]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        env = worker_environment(self.options.threads, self.out / "cache") | sightline_path()
        start = time.perf_counter()
        done = subprocess.run([*command, "--out", str(run)], check=True, env=env, text=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - start
        computed = [float(found) for found in re.findall(r"features of .* computed in ([\d.]+) s", done.stdout)]
        stored = "from the cache" in done.stdout
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        accuracy = next(record["accuracy"] for record in records if record["event"] == "eval")
        values = {"seconds": seconds, "features_seconds": sum(computed), "from_cache": stored, "accuracy": accuracy}
        precision = json.loads((run / "provenance.json").read_text())["precision"]
        return {**values, "command": command, "precision": precision}


def tune(bench: ProbeBench, name: str, python: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the tool's number of loading processes, batch size and precision, from settings.json.

    With `--tune`, each is chosen in turn as the fastest of runs of the whole process, with features alone for the
    plain loop and one epoch for the other tools; a second round starts from the chosen ones. Without, and if nothing
    was chosen for this model and size, the defaults are used.
    """
    options = bench.options
    key = f"probe, {options.model} at {options.size}, {options.threads} threads: {name}"
    if not options.tune:
        if key not in settings:
            print(f"{name}: no chosen settings in {options.envs}, so the defaults are used; see --tune")
        return settings.get(key, {"chosen": START})["chosen"]
    tried: list[dict[str, Any]] = []
    chosen: dict[str, Any] = dict(START)
    for what, values in ({"precision": RIVALS[name].precisions} | TUNED).items():
        for value in values:
            attempt = chosen | {what: value}
            if any(each["chosen"] == attempt for each in tried):
                continue
            result = bench.run_rival(name, python, attempt, features_only=True, epochs=1)
            if result:
                tried.append({"chosen": attempt, "seconds": result["seconds"]})
                print(f"{name:<20} {attempt!s:<70} {result['seconds']:8.1f} s", flush=True)
        chosen = min(tried, key=lambda each: each["seconds"])["chosen"] if tried else chosen
    settings[key] = {"chosen": chosen, "tried": tried}
    store_settings(options.envs, settings)
    return chosen


def measure(bench: ProbeBench, ready: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each tool and repeat its result and those of the two Sightline runs next to it."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ready}
    for repeat in range(bench.options.repeats):
        for name, (python, chosen) in ready.items():
            order = ("rival", "first", "second") if repeat % 2 == 0 else ("first", "second", "rival")
            row: dict[str, Any] = {}
            for which in order:
                own = which != "rival"
                row[which] = bench.run_sightline(which == "first") if own else bench.run_rival(name, python, chosen)
            if row["rival"]:
                results[name].append(row)
                seconds = ", ".join(f"{which} {row[which]['seconds']:.1f} s" for which in ("rival", "first", "second"))
                print(f"{repeat + 1}. {name}: {seconds}", file=sys.stderr, flush=True)
    return {name: rows for name, rows in results.items() if rows}


def print_table(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians and ranges: seconds, seconds of the features, accuracy, and ratios to Sightline's seconds."""
    print(f"{'':<22} {'seconds':>23} {'features':>23} {'accuracy':>8} {'it / first':>21} {'it / second':>21}")
    for name, rows in results.items():
        own = [row["rival"] for row in rows]
        ratios = [[row["rival"]["seconds"] / row[which]["seconds"] for row in rows] for which in ("first", "second")]
        print(table_row(name, own), *(f"{median_range(values, 2):>21}" for values in ratios))
    for which in ("first", "second"):
        print(table_row(f"Sightline, {which}", [row[which] for rows in results.values() for row in rows]))


def table_row(name: str, runs: list[dict[str, Any]]) -> str:
    """The first four columns of a row of the table."""
    features = [run["features_seconds"] for run in runs if "features_seconds" in run]
    accuracy = statistics.median(run["accuracy"] for run in runs)
    seconds = median_range(run["seconds"] for run in runs)
    return f"{name:<22} {seconds:>23} {median_range(features) if features else '-':>23} {accuracy:>8.3f}"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="rivals.py probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envs", type=Path, required=True, help="folder for the environments of the other tools")
    parser.add_argument("--pictures", required=True, help="folder of images with classes")
    parser.add_argument("--weights", required=True, help=".safetensors file for --model, loaded by every tool")
    parser.add_argument("--model", default="timm/tf_efficientnet_lite0", help="a network of timm: timm/NAME")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--file", type=size_of, help="WIDTHxHEIGHT: convert the images to JPEG files of this size")
    parser.add_argument("--epochs", type=int, default=5, help="of the tools that train the classifier by epochs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="only choose each tool's settings and write settings.json")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def size_of(text: str) -> tuple[int, int]:
    """Width and height of `500x400`."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def main(arguments: list[str]) -> None:
    """Install missing tools, measure, print a table and write JSON; with `--tune` only choose their settings."""
    options, info = parse(arguments), machine_info()
    options.envs.mkdir(parents=True, exist_ok=True)
    settings = stored_settings(options.envs)
    with tempfile.TemporaryDirectory() as folder:
        bench = ProbeBench(options, Path(folder))
        counts = write_photographs(Path(folder) / "data", options)
        ready = {}
        for name in options.only:
            if python := environment(RIVALS[name].environment, RIVALS[name].packages, options.envs):
                ready[name] = (python, tune(bench, name, python, settings))
        results = {} if options.tune else measure(bench, ready)
    if not results:
        return
    title = f"{options.model} at {options.size} pixels, {counts['train']:,} images and {counts['val']:,} held out"
    print(f"probe: {title}, {options.threads} threads, {options.repeats} repeats\n{machine_line(info)}")
    print_table(results)
    chosen = {name: chosen for name, (_, chosen) in ready.items()}
    write_results(options.json, info | {"case": "probe", "chosen": chosen, "counts": counts}, results)
