"""`sightline export --format safetensors`: the weights, their description and a script that needs no Sightline."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config.schema import Config
from ..data.cache import Decoded, decode
from ..data.pair_cache import DecodedPairs, decode_pairs
from ..data.sources.open import open_source
from ..data.sources.pairs import open_pairs
from ..errors import SightlineError
from ..inference.tiles import likeliest
from ..runs import run_folder
from ..runs.atomic import atomic_write
from ..runs.checkpoint import CONFIG, MODEL, description_of, load_model
from ..tasks.classify.build import build_for_inference
from ..tasks.classify.results import evaluate_checkpoints
from ..tasks.segment.evaluate import load_segmenter
from . import validation_missing
from .check import tied
from .scripts import classifier_script, segmenter_script

PICTURES = 8
"""Validation pictures on which the script is run."""
NEAR = 1e-3
"""Printed probabilities may differ by this much; of masks this share of the pixels."""
README = """# {name}

Weights of the Sightline run {name} for use without Sightline.

    pip install torch torchvision safetensors pillow{extra}
    python load.py {usage}

- `model.safetensors`: the weights, float32.
- `config.json`: the model's name and arguments, the classes, the preprocessing and the palette.
- `load.py`: builds the model, loads the weights and looks at pictures; all of it is meant to be copied.
{network}"""
NETWORK = "- `network/`: the model's own source, which needs torch alone (Apache License 2.0).\n"


def export_weights(folder: Path, config: Config, target: Path, say: Callable[[str], None]) -> Path:
    """The folder `target` with weights, config.json, load.py and README.md; checked by running load.py."""
    place = only_member(folder, config)
    with description_of(place) as description:
        facts: dict[str, Any] = dict(description)
    tensors, _ = load_model(place)
    make = segmenter_script if config.task == "segment" else classifier_script
    script, sources = make(facts, tensors, config.train.flip_test)
    check = check_masks if config.task == "segment" else check_labels
    staged = Path(tempfile.mkdtemp(prefix="sightline-export-"))
    try:
        for name in (MODEL, CONFIG):
            shutil.copyfile(place / name, staged / name)
        (staged / "load.py").write_text(script, encoding="utf-8")
        for name, text in sources.items():
            (staged / "network").mkdir(exist_ok=True)
            (staged / "network" / name).write_text(text, encoding="utf-8")
        say(check(folder, config, staged))
        usage = "PICTURE MASK.png" if config.task == "segment" else "PICTURE ..."
        extra = " timm" * ("import timm" in script) + " segmentation-models-pytorch" * ("import segmentation" in script)
        network = NETWORK * bool(sources)
        readme = README.format(name=folder.resolve().name, extra=extra, usage=usage, network=network)
        files = [path for path in sorted(staged.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
        for path in files:
            atomic_write(target / path.relative_to(staged), path.read_bytes())
        atomic_write(target / "README.md", readme)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def only_member(folder: Path, config: Config) -> Path:
    """The one checkpoint of a run; SightlineError for what a plain script would not repeat."""
    members = run_folder.shipped_checkpoints(folder)
    what = ""
    if len(members) > 1:
        what = f"the run's model is the mean of {len(members)} epochs"
    elif config.task == "segment" and config.train.turn_test:
        what = "the run averages its masks over flips and quarter turns"
    if what:
        cure = "--format onnx, which has all of that in the graph"
        raise SightlineError("one file of weights does not say what this run says", why=what, cure=cure)
    return members[0]


def run_script(staged: Path, pictures: list[Path], *more: str) -> str:
    """What load.py prints for these pictures, run as by somebody who has no Sightline."""
    command = [sys.executable, "-B", str(staged / "load.py"), *map(str, pictures), *more]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=staged, env=environment)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        cure = "--format onnx; and please report this"
        raise SightlineError("not exported: the script that loads the weights fails", why=why, cure=cure, status=1)
    return done.stdout


def check_labels(folder: Path, config: Config, staged: Path) -> str:
    """A sentence on load.py and PyTorch on some validation pictures; SightlineError where they differ."""
    parts = build_for_inference(folder, config, "fp32")
    try:
        source = open_source(config.data, config.data.split_seed)
    except SightlineError as error:
        raise validation_missing(error, config) from error
    decoded = decode(source, "val", parts.square.side, config.data, lambda text: None)
    rows = spread(len(decoded.names))
    few = Decoded(
        decoded.images[rows],
        np.zeros(len(rows), np.int64),
        tuple(decoded.names[row] for row in rows),
        parts.classes,
        "",
        0,
    )
    _, arrays = evaluate_checkpoints(
        parts.task, run_folder.shipped_checkpoints(folder), few, len(rows), parts.device, parts.dtype
    )
    with tempfile.TemporaryDirectory(prefix="sightline-export-") as name:
        said = run_script(staged, [saved(Path(name), place, image) for place, image in enumerate(few.images)])
    found = [line.rsplit(" ", 1) for line in said.splitlines()]
    own = arrays["probabilities"]
    largest = max(abs(float(text) - float(row.max())) for (_, text), row in zip(found, own, strict=True))
    likeliest_ones = [parts.classes[place] for place in own.argmax(1)]
    pairs = zip(found, likeliest_ones, tied(own), strict=True)
    if any(not before.endswith(f" {label}") and not open_ for (before, _), label, open_ in pairs):
        raise differing("it gives another class")
    if largest > NEAR:
        raise differing(f"the likeliest class's probability differs by {largest:.2g}")
    return f"load.py repeats PyTorch on {len(rows)} validation pictures; confidences differ by at most {largest:.1e}"


def check_masks(folder: Path, config: Config, staged: Path) -> str:
    """As `check_labels`, of the mask of one validation image."""
    parts = load_segmenter(folder, config)
    try:
        source, palette = open_pairs(config.data, config.data.split_seed, known=parts.palette)
    except SightlineError as error:
        raise validation_missing(error, config) from error
    decoded: DecodedPairs = decode_pairs(source, "val", palette, config.data, lambda text: None)
    height, width = decoded.sizes[0]
    image = np.ascontiguousarray(decoded.images[0][:, :height, :width])
    with torch.inference_mode():
        own = likeliest(parts.task.logits(torch.from_numpy(image)[None])[0].float()).numpy()
    with tempfile.TemporaryDirectory(prefix="sightline-export-") as name:
        picture, mask = saved(Path(name), 0, image), Path(name) / "mask.png"
        run_script(staged, [picture], str(mask))
        with Image.open(mask) as opened:
            found = np.asarray(opened)
    apart = int((found != own).sum()) if found.shape == own.shape else own.size
    if apart > NEAR * own.size:
        raise differing(f"{apart:,} of {own.size:,} pixels differ")
    return f"load.py repeats PyTorch on {decoded.names[0]}: {apart:,} of {own.size:,} pixels differ"


def differing(why: str) -> SightlineError:
    """load.py runs, and says something else."""
    cure = "--format onnx; and please report this"
    return SightlineError("not exported: load.py differs from PyTorch", why=why, cure=cure, status=1)


def spread(count: int) -> np.ndarray:
    """At most PICTURES places, evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, PICTURES)).astype(np.int64))


def saved(folder: Path, place: int, image: np.ndarray) -> Path:
    """uint8 [3, H, W] as a PNG file."""
    path = folder / f"{place}.png"
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(path)
    return path
