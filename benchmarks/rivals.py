"""Images/s of `sightline train` against what people use: same model, pictures, batch and threads, side by side.

    python benchmarks/rivals.py resnet18-64 --envs FOLDER --pictures PHOTOS --tune       # once: settings and workers
    python benchmarks/rivals.py resnet18-64 --envs FOLDER --pictures PHOTOS --json resnet18-64.json

Cases: `resnet18-64`, `small-32` and `photos-224` (500x400 JPEG of quality 90); ResNet-18 is torchvision's and timm's
as it stands, 7x7 stem and pooling, for all. Augmentation is a random resized crop of 8 to 100% of the area and a flip;
what each rival does and where it differs stands in its file in rivals/. Each has a virtual environment of its own in
FOLDER, made when first needed (with uv, where there is one); a rival that cannot be installed or fails is left out
with a message. No rival is imported here: LightlyTrain and Ultralytics are under the AGPL.

Every run is two epochs in a process of its own. Cold: images by the seconds from the tool's being imported to the end
of the first epoch's last step: listing, decoding, building the model. Warm: images by the seconds of the second epoch,
from asking for its first batch to the end of its last step. Evaluation counts nowhere. Sightline is the whole command
with an empty cache. Runs go rival, Sightline, rival; each rival's ratio is to the Sightline run beside it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import list_images, machine_info, machine_line, median_range, warm_speed, write_results, write_split

WORKERS = Path(__file__).with_name("rivals")
SMALL_CNN = Path(__file__).parents[1] / "src" / "sightline" / "models" / "small.py"
TRAIN_PY = "https://raw.githubusercontent.com/huggingface/pytorch-image-models/v{}/train.py"
MARK, VAL = "stopwatch ", 32


@dataclass(frozen=True)
class Case:
    """One comparison: the model, its images, and the pictures on disk."""

    model: str
    size: int
    picture: tuple[int, int, str]
    steps: int
    resize: int = 0
    classes: int = 10


CASES = {
    "resnet18-64": Case("resnet18", 64, (64, 64, "jpg"), 12),
    "small-32": Case("small_cnn", 32, (32, 32, "png"), 40),
    "photos-224": Case("resnet18", 224, (500, 400, "jpg"), 3, resize=256),
}


@dataclass(frozen=True)
class Rival:
    """One tool at one precision: its worker, its environment and what is installed there."""

    worker: str
    environment: str
    packages: tuple[str, ...]
    precision: str = "fp32"
    models: tuple[str, ...] = ("resnet18", "small_cnn")
    caches: tuple[Any, ...] = (False,)
    fixed: dict[str, Any] = field(default_factory=dict)


RIVALS = {
    "tutorial loop": Rival("tutorial.py", "tutorial", ()),
    "fastai": Rival("with_fastai.py", "fastai", ("fastai",)),
    "timm train.py": Rival("with_timm.py", "timm", ("timm",)),
    "timm, bf16 cl": Rival("with_timm.py", "timm", ("timm",), "bf16 channels_last"),
    "LightlyTrain": Rival("with_lightly_train.py", "lightly_train", ("lightly-train",), models=("resnet18",)),
    "LightlyTrain, bf16": Rival(
        "with_lightly_train.py", "lightly_train", ("lightly-train",), "bf16", models=("resnet18",)
    ),
    "Ultralytics": Rival(
        "with_ultralytics.py", "ultralytics", ("ultralytics",), models=("resnet18",), caches=(False, "ram", "disk")
    ),
}


def environment(rival: Rival, envs: Path) -> Path | None:
    """Python of the rival's environment, made where it is not there; None where it cannot be."""
    from importlib.metadata import version

    folder = (envs / rival.environment).absolute()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "installed"
    if ready.exists():
        return python
    same = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet", "--clear"] if uv else [sys.executable, "-m", "venv", "--clear"]
    python_of_uv = ["--python", sys.executable] if uv else []
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    print(f"installing {rival.environment} into {folder}", flush=True)
    places = os.environ | {"UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(envs.absolute() / "cache"))}
    for command in ([*make, *python_of_uv, str(folder)], [*pip, "--quiet", *same, *rival.packages]):
        done = subprocess.run([str(word) for word in command], env=places, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
            print(f"{rival.environment} is left out, it cannot be installed: {reason[0]}")
            return None
    ready.touch()
    return python


def timm_script(python: Path, envs: Path) -> str:
    """train.py of the installed timm's version, from GitHub; "" without a network, and the worker goes timm's pieces'
    way."""
    ask = [str(python), "-c", "from importlib.metadata import version; print(version('timm'))"]
    installed = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    place = envs.absolute() / f"timm-train-{installed}.py"
    if not place.exists():
        try:
            with urllib.request.urlopen(TRAIN_PY.format(installed), timeout=10) as answer:
                place.write_bytes(answer.read())
        except OSError:
            return ""
    return str(place)


class Bench:
    """The data of one case, and how each side is run on it."""

    def __init__(self, case: Case, options: argparse.Namespace, folder: Path):
        self.case, self.options, self.folder = case, options, folder
        self.steps = options.steps or case.steps
        self.images = self.steps * options.batch
        self.scripts: dict[Path, str] = {}
        pictures = list_images(options.pictures)
        write_split(folder / "data" / "train", self.images, case.classes, *case.picture, pictures)
        write_split(folder / "data" / "val", VAL, case.classes, *case.picture, pictures)

    def environ(self) -> dict[str, str]:
        """The same number of threads for all; nothing that a run leaves is found by the next."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        for left in (*(self.folder / "data").rglob("*.cache"), *(self.folder / "data").rglob("*.npy")):
            left.unlink()
        out.mkdir()
        ours = ("PYTHONPATH", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
        kept = {key: value for key, value in os.environ.items() if key not in ours}
        return kept | {"OMP_NUM_THREADS": str(self.options.threads), "SIGHTLINE_CACHE": str(out / "cache")}

    def theirs(self, name: str, python: Path, chosen: dict[str, Any]) -> dict[str, Any] | None:
        """Cold and warm images/s of a rival with these settings; None, with a message, where it fails."""
        rival, case = RIVALS[name], self.case
        if rival.worker == "with_timm.py" and python not in self.scripts:
            given = self.options.timm_script
            self.scripts[python] = str(Path(given).absolute()) if given else timm_script(python, self.options.envs)
        wanted = {
            **{"data": str(self.folder / "data"), "out": str(self.folder / "out"), "model": case.model},
            **{"classes": case.classes, "size": case.size, "batch": self.options.batch, "steps": self.steps},
            **{"threads": self.options.threads, "precision": rival.precision, "small_cnn": str(SMALL_CNN)},
            **{"timm_script": self.scripts.get(python, ""), **chosen},
        }
        command = [str(python), str(WORKERS / rival.worker), json.dumps(wanted)]
        environ, out = self.environ(), self.folder / "out"
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=out)
        lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        if not lines:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
            print(f"{name} with {chosen} is left out: {reason[0]}", flush=True)
            return None
        result = json.loads(lines[-1].removeprefix(MARK))
        (_, first), (begin, end) = result.pop("epochs")
        return {"cold": self.images / first, "warm": self.images / (end - begin), "command": command, **result}

    def ours(self) -> dict[str, Any]:
        """The same of `sightline train`."""
        case = self.case
        settings = {
            **{"data.size": case.size, "model.name": case.model, "augment.resize": case.resize},
            **{"augment.crop": "resized", "augment.crop_scale": "[0.08, 1.0]", "augment.horizontal_flip": 0.5},
            **{"optim.lr": 0.001, "optim.weight_decay": 0, "schedule.name": "constant", "schedule.warmup_epochs": 0},
            **{"loss.smoothing": 0, "train.epochs": 2, "train.batch_size": self.options.batch, "report.samples": 0},
            **{"train.threads": self.options.threads},
        }
        settings |= {"model.args": '{"small_images": false}'} if case.model == "resnet18" else {}
        run = self.folder / "out" / "run"
        command = [sys.executable, "-m", "sightline", "train", "photos_scratch", "--data", str(self.folder / "data")]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command += ["--out", str(run), "--quiet"]
        environ = self.environ()
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ | path)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        cold = max(r["seconds"] for r in records if r["event"] == "train" and r["step"] <= self.steps)
        warm = warm_speed(records, self.steps, self.options.batch)
        precision = json.loads((run / "provenance.json").read_text())["precision"]
        return {"cold": self.images / cold, "warm": warm, "command": command, "precision": precision}


def tuned(bench: Bench, name: str, python: Path, known: dict[str, Any]) -> dict[str, Any] | None:
    """The workers (0, 1, 2) and the cache of pictures with which the rival's warm epoch is fastest, each tried once."""
    key = f"{bench.options.case}, batch {bench.options.batch}, {bench.options.threads} threads: {name}"
    if key in known and not bench.options.tune:
        return known[key]["chosen"]
    tried = []
    for cache in RIVALS[name].caches:
        for workers in (0, 1, 2):
            chosen = {"workers": workers, "cache": cache}
            result = bench.theirs(name, python, chosen)
            if result:
                tried.append({"chosen": chosen, "warm": result["warm"], "cold": result["cold"]})
                print(f"{name:<20} {chosen!s:<34} warm {result['warm']:8.1f} cold {result['cold']:8.1f}", flush=True)
    if not tried:
        return None
    known[key] = max(tried, key=lambda one: one["warm"]) | {"tried": tried}
    keep_settings(bench.options.envs, known)
    return known[key]["chosen"]


def keep_settings(envs: Path, known: dict[str, Any]) -> None:
    """Where the next call finds what was tried."""
    (envs / "settings.json").write_text(json.dumps(known, indent=1))


def measure(bench: Bench, ready: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Of each rival, for each repeat: its own numbers and those of the Sightline run beside it."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ready}
    for repeat in range(bench.options.repeats):
        names = list(ready) if repeat % 2 == 0 else list(ready)[::-1]  # what drifts hits the first as the last
        for first in range(0, len(names), 2):
            pair = names[first : first + 2]
            them = {pair[0]: bench.theirs(pair[0], *ready[pair[0]])}
            us = bench.ours()
            them |= {name: bench.theirs(name, *ready[name]) for name in pair[1:]}
            for name, result in them.items():
                if result:
                    results[name].append({"rival": result, "sightline": us})
                    warm, cold = (result[key] for key in ("warm", "cold"))
                    line = f"{repeat + 1}. {name:<20} warm {warm:8.1f}, Sightline {us['warm']:8.1f};"
                    print(f"{line} cold {cold:8.1f}, Sightline {us['cold']:8.1f}", file=sys.stderr, flush=True)
    return {name: found for name, found in results.items() if found}


def print_table(results: dict[str, list[dict[str, Any]]], chosen: dict[str, dict[str, Any]]) -> None:
    """Medians, with the lowest and the highest."""
    heads = f"{'workers':>7} {'cache':>5} {'warm':>25} {'Sightline / it':>21} {'cold':>25} {'Sightline / it':>21}"
    print(f"{'':<20} {heads}")
    medians = {}
    for name, pairs in results.items():
        cells = []
        for key in ("warm", "cold"):
            cells += [median_range([pair["rival"][key] for pair in pairs])]
            cells += [median_range([pair["sightline"][key] / pair["rival"][key] for pair in pairs], 2)]
        medians[name] = statistics.median(pair["rival"]["warm"] for pair in pairs)
        cache = chosen[name]["cache"] or "-"
        print(f"{name:<20} {chosen[name]['workers']:>7} {cache:>5} {cells[0]:>25} {cells[1]:>21} ", end="")
        print(f"{cells[2]:>25} {cells[3]:>21}")
    ours = [pair["sightline"] for pairs in results.values() for pair in pairs]
    warm, cold = (median_range([run[key] for run in ours]) for key in ("warm", "cold"))
    print(f"{'Sightline, ' + ours[0]['precision']:<20} {'-':>7} {'-':>5} {warm:>25} {'':>21} {cold:>25}")
    print(f"fastest rival in a warm epoch: {max(medians, key=lambda name: medians[name])}")
    for name, pairs in results.items():
        if way := pairs[0]["rival"].get("way"):
            print(f"{name}: {way}")


def main() -> None:
    """Install what is missing, choose settings, measure, print one table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--envs", type=Path, required=True, help="folder of the rivals' environments")
    parser.add_argument("--pictures", help="folder of photographs to make the data from; without it, noise")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, help="an epoch's; default: the case's own")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--tune", action="store_true", help="only choose each rival's workers and cache, and write_results them"
    )
    parser.add_argument("--timm-script", help="timm's train.py; without it, it is fetched from GitHub")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.envs.mkdir(parents=True, exist_ok=True)
    case, known = CASES[options.case], machine_info()
    if (options.envs / "settings.json").exists():
        settings = json.loads((options.envs / "settings.json").read_text())
    else:
        settings = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(case, options, Path(folder))
        ready = {}
        for name in options.only:
            if case.model not in RIVALS[name].models:
                print(f"{name} is left out: it does not take {case.model} as a module")
            elif python := environment(RIVALS[name], options.envs):
                chosen = tuned(bench, name, python, settings)
                ready |= {name: (python, chosen)} if chosen else {}
        if options.tune or not ready:
            return
        results = measure(bench, ready)
    width, height, suffix = case.picture
    data = f"batch {options.batch}, {bench.steps} steps an epoch, {width}x{height} {suffix}"
    print(f"{options.case}: {case.model}, {data}, ", end="")
    print(f"{options.threads} threads, {options.repeats} repeats; images/s\n{machine_line(known)}")
    print_table(results, {name: chosen for name, (_, chosen) in ready.items()})
    write_results(options.json, known | {"case": options.case, "settings": settings}, results)


if __name__ == "__main__":
    main()
