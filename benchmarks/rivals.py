"""Compare the images/s of `sightline train` and of other tools, with the same model, images, batch size and threads.

    python benchmarks/rivals.py resnet18-64 --envs FOLDER --pictures PHOTOS --tune  # optional: choose settings again
    python benchmarks/rivals.py resnet18-64 --envs FOLDER --pictures PHOTOS --json resnet18-64.json
    python benchmarks/rivals.py probe --help  # frozen features and a linear classifier, see probe_rivals.py

Cases: `resnet18-64`, `small-32`, `photos-224` (from JPEG files of 500x400, quality 90), and with networks of timm
`lite0-128` and `mobilenet-128`, which only timm's train.py trains. ResNet-18 is the standard architecture of
torchvision and timm, with a 7x7 stem and max pooling. Augmentation is a random resized crop of 8 to
100% of the area and a horizontal flip. The scripts in rivals/ describe the differences of each tool.

Each tool has a virtual environment in FOLDER, which is created when it is first needed, with uv if it is installed. A
tool that cannot be installed or fails is skipped with a message. This script imports no other tool, because
LightlyTrain and Ultralytics are under the AGPL.

Each run trains two epochs in a separate process. "Cold" is the number of images divided by the seconds from after the
import of the tool (for Sightline, from the start of its log) to the end of the first epoch, which includes listing
files, decoding and building the model. "Warm" is the same for the second epoch alone. Evaluation is not included.
Sightline starts with an empty cache. Runs alternate, and the ratio of a tool is to the Sightline run next to it.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import probe_rivals
from environments import WORKERS, environment, run_worker, store_settings, stored_settings, worker_environment
from machine import list_images, machine_info, machine_line, median_range, warm_speed, write_results, write_split

SMALL_CNN = Path(__file__).parents[1] / "src" / "sightline" / "models" / "small.py"
TRAIN_PY = "https://raw.githubusercontent.com/huggingface/pytorch-image-models/v{}/train.py"
VAL = 32


@dataclass(frozen=True)
class Case:
    """One comparison. size: side of the training images. file: width, height and suffix of the image files. library:
    prefix of the model's name in Sightline."""

    model: str
    size: int
    file: tuple[int, int, str]
    steps: int
    resize: int = 0
    classes: int = 10
    batch: int = 128
    library: str = ""


CASES = {
    "resnet18-64": Case("resnet18", 64, (64, 64, "jpg"), 12),
    "small-32": Case("small_cnn", 32, (32, 32, "png"), 40),
    "photos-224": Case("resnet18", 224, (500, 400, "jpg"), 3, resize=256),
    "lite0-128": Case("tf_efficientnet_lite0", 128, (160, 160, "jpg"), 24, batch=32, library="timm/"),
    "mobilenet-128": Case("mobilenetv3_large_100", 128, (160, 160, "jpg"), 24, batch=32, library="timm/"),
}


@dataclass(frozen=True)
class Rival:
    """A tool at one precision: its script in rivals/, its virtual environment and the packages to install in it."""

    worker: str
    environment: str
    packages: tuple[str, ...]
    precision: str = "fp32"
    models: tuple[str, ...] = ("resnet18", "small_cnn")
    caches: tuple[Any, ...] = (False,)


DEPTHWISE = ("tf_efficientnet_lite0", "mobilenetv3_large_100")
TIMM = ("resnet18", "small_cnn", *DEPTHWISE)
RIVALS = {
    "tutorial loop": Rival("tutorial.py", "tutorial", ()),
    "fastai": Rival("with_fastai.py", "fastai", ("fastai",)),
    "timm train.py": Rival("with_timm.py", "timm", ("timm",), models=TIMM),
    "timm, fp32 cl": Rival("with_timm.py", "timm", ("timm",), "fp32 channels_last", models=DEPTHWISE),
    "timm, bf16 cl": Rival("with_timm.py", "timm", ("timm",), "bf16 channels_last", models=TIMM),
    "LightlyTrain": Rival("with_lightly_train.py", "lightly_train", ("lightly-train",), models=("resnet18",)),
    "LightlyTrain, bf16": Rival(
        "with_lightly_train.py", "lightly_train", ("lightly-train",), "bf16", models=("resnet18",)
    ),
    "Ultralytics": Rival(
        "with_ultralytics.py", "ultralytics", ("ultralytics",), models=("resnet18",), caches=(False, "ram", "disk")
    ),
}


def timm_script(python: Path, envs: Path) -> str:
    """Download train.py of the installed version of timm and return its path; "" if the download fails."""
    command = [str(python), "-c", "from importlib.metadata import version; print(version('timm'))"]
    installed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    path = envs.absolute() / f"timm-train-{installed}.py"
    if not path.exists():
        try:
            with urllib.request.urlopen(TRAIN_PY.format(installed), timeout=10) as response:
                path.write_bytes(response.read())
        except OSError:
            return ""
    return str(path)


class Bench:
    """Creates the data of one case and runs Sightline and the other tools on it."""

    def __init__(self, case: Case, options: argparse.Namespace, folder: Path):
        self.case, self.options, self.folder = case, options, folder
        self.steps = options.steps or case.steps
        self.images = self.steps * options.batch
        self.scripts: dict[Path, str] = {}
        paths = list_images(options.pictures)
        write_split(folder / "data" / "train", self.images, case.classes, *case.file, paths)
        write_split(folder / "data" / "val", VAL, case.classes, *case.file, paths)

    def prepare(self) -> dict[str, str]:
        """Delete all output and caches of the previous run; return the environment variables of the next."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        for cache in (*(self.folder / "data").rglob("*.cache"), *(self.folder / "data").rglob("*.npy")):
            cache.unlink()
        out.mkdir()
        return worker_environment(self.options.threads, out / "cache")

    def run_rival(self, name: str, python: Path, chosen: dict[str, Any]) -> dict[str, Any] | None:
        """Return the cold and warm images/s of a rival with these settings; print a message and return None if it
        fails."""
        rival, case = RIVALS[name], self.case
        if rival.worker == "with_timm.py" and python not in self.scripts:
            given = self.options.timm_script
            self.scripts[python] = str(Path(given).absolute()) if given else timm_script(python, self.options.envs)
        settings = {
            **{"data": str(self.folder / "data"), "out": str(self.folder / "out"), "model": case.model},
            **{"classes": case.classes, "size": case.size, "batch": self.options.batch, "steps": self.steps},
            **{"threads": self.options.threads, "precision": rival.precision, "small_cnn": str(SMALL_CNN)},
            **{"timm_script": self.scripts.get(python, ""), **chosen},
        }
        command = [str(python), str(WORKERS / rival.worker), json.dumps(settings)]
        env, out = self.prepare(), self.folder / "out"
        result = run_worker(f"{name} with {chosen}", command, env, out)
        if result is None:
            return None
        (_, first), (begin, end) = result.pop("epochs")
        return {"cold": self.images / first, "warm": self.images / (end - begin), "command": command, **result}

    def run_sightline(self) -> dict[str, Any]:
        """Return the cold and warm images/s of `sightline train`."""
        case = self.case
        settings = {
            **{"data.size": case.size, "model.name": case.library + case.model, "augment.resize": case.resize},
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
        env = self.prepare()
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env | path)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        cold = max(r["seconds"] for r in records if r["event"] == "train" and r["step"] <= self.steps)
        warm = warm_speed(records, self.steps, self.options.batch)
        precision = json.loads((run / "provenance.json").read_text())["precision"]
        return {"cold": self.images / cold, "warm": warm, "command": command, "precision": precision}


def tune(bench: Bench, name: str, python: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the number of workers (0, 1, 2) and the image cache with the fastest warm epoch, from one run of each.

    settings: results of earlier calls, from settings.json; updated and written there. None if all runs fail.
    """
    key = f"{bench.options.case}, batch {bench.options.batch}, {bench.options.threads} threads: {name}"
    if key in settings and not bench.options.tune:
        return settings[key]["chosen"]
    tried = []
    for cache in RIVALS[name].caches:
        for workers in (0, 1, 2):
            chosen = {"workers": workers, "cache": cache}
            result = bench.run_rival(name, python, chosen)
            if result:
                tried.append({"chosen": chosen, "warm": result["warm"], "cold": result["cold"]})
                print(f"{name:<20} {chosen!s:<34} warm {result['warm']:8.1f} cold {result['cold']:8.1f}", flush=True)
    if not tried:
        return None
    settings[key] = max(tried, key=lambda result: result["warm"]) | {"tried": tried}
    store_settings(bench.options.envs, settings)
    return settings[key]["chosen"]


def measure(bench: Bench, ready: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each rival and repeat its result and that of the Sightline run next to it."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ready}
    for repeat in range(bench.options.repeats):
        names = list(ready) if repeat % 2 == 0 else list(ready)[::-1]  # so that drift of the machine affects all
        for first in range(0, len(names), 2):
            pair = names[first : first + 2]
            measured = {pair[0]: bench.run_rival(pair[0], *ready[pair[0]])}
            ours = bench.run_sightline()
            measured |= {name: bench.run_rival(name, *ready[name]) for name in pair[1:]}
            for name, result in measured.items():
                if result:
                    results[name].append({"rival": result, "sightline": ours})
                    warm, cold = (result[key] for key in ("warm", "cold"))
                    line = f"{repeat + 1}. {name:<20} warm {warm:8.1f}, Sightline {ours['warm']:8.1f};"
                    print(f"{line} cold {cold:8.1f}, Sightline {ours['cold']:8.1f}", file=sys.stderr, flush=True)
    return {name: pairs for name, pairs in results.items() if pairs}


def print_table(results: dict[str, list[dict[str, Any]]], chosen: dict[str, dict[str, Any]]) -> None:
    """Print the median and the range of each rival's images/s, and those of Sightline's images/s divided by them."""
    header = f"{'workers':>7} {'cache':>5} {'warm':>25} {'Sightline / it':>21} {'cold':>25} {'Sightline / it':>21}"
    print(f"{'':<20} {header}")
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
        if note := pairs[0]["rival"].get("way"):
            print(f"{name}: {note}")


def main() -> None:
    """Install missing tools, choose their settings, measure, print a table and write JSON."""
    if sys.argv[1:2] == ["probe"]:
        return probe_rivals.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--envs", type=Path, required=True, help="folder for the environments of the other tools")
    parser.add_argument("--pictures", help="folder of images for the data; default: noise")
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--batch", type=int, help="default: 128; 32 for the cases at 128 pixels")
    parser.add_argument("--steps", type=int, help="steps per epoch; default: depends on the case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="only choose each tool's settings and write settings.json")
    parser.add_argument("--timm-script", help="path of timm's train.py; default: download from GitHub")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.envs.mkdir(parents=True, exist_ok=True)
    case, info = CASES[options.case], machine_info()
    options.batch = options.batch or case.batch
    settings = stored_settings(options.envs)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(case, options, Path(folder))
        ready = {}
        for name in options.only:
            if case.model not in RIVALS[name].models:
                print(f"skipped {name}: it cannot train the model {case.model}")
            elif python := environment(RIVALS[name].environment, RIVALS[name].packages, options.envs):
                chosen = tune(bench, name, python, settings)
                ready |= {name: (python, chosen)} if chosen else {}
        if options.tune or not ready:
            return
        results = measure(bench, ready)
    width, height, suffix = case.file
    data = f"batch {options.batch}, {bench.steps} steps per epoch, {width}x{height} {suffix}"
    print(f"{options.case}: {case.model}, {data}, ", end="")
    print(f"{options.threads} threads, {options.repeats} repeats; images/s\n{machine_line(info)}")
    print_table(results, {name: chosen for name, (_, chosen) in ready.items()})
    write_results(options.json, info | {"case": options.case, "settings": settings}, results)


if __name__ == "__main__":
    main()
