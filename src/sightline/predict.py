"""Pictures in, CSV out: bounded memory, and a file that cannot be read becomes a row that says why."""

import copy
import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import nn

from . import runs
from .build import Inference, build_for_inference
from .checkpoint import load_model
from .config import load_recipe_file
from .data.images import fit, open_image, planes
from .data.scan import EXTENSIONS, FORMATS_TEXT, images_below, left_out
from .device import autocast
from .errors import SightlineError
from .files import atomic_write

CHUNK = 256


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Classify one image or all images below a folder with a run's shipped weights; returns the CSV's path.

    Columns: filename (relative to the folder), label, confidence, one probability a class, error. The file appears
    when it is complete.
    """
    folder, target = runs.existing(run), Path(out)
    if target.exists() and not overwrite:
        raise SightlineError("the output file exists", where=str(target), cure="another --out, or --overwrite")
    root, names, left = list_images(Path(images))
    config = load_recipe_file(folder / "recipe.yaml")
    precision = runs.provenance(folder).get("precision", "auto")
    parts = build_for_inference(folder, config, precision)
    models = [with_weights(parts.model, place) for place in runs.shipped_checkpoints(folder)]
    bad: list[str] = []

    def write(file: IO[bytes]) -> None:
        write_row(file, ["filename", "label", "confidence", *parts.classes, "error"])
        for chunk in batched(names, CHUNK):
            pixels, errors = read_chunk(root, chunk, parts.size, config.data.max_pixels)
            rows = iter(mean_probabilities(models, pixels, parts) if len(pixels) else ())
            for name in chunk:
                write_row(file, row_of(name, errors.get(name, ""), parts.classes, rows))
            bad.extend(errors)

    atomic_write(target, write)
    if not quiet:
        print(f"{len(names) - len(bad):,} images classified" + (f"; left out: {left}" if left else ""))
        if bad:
            print(f"{len(bad):,} could not be read; their rows say why, the first: {bad[0]}")
    return target


def list_images(place: Path) -> tuple[Path, list[str], str]:
    """(folder, names below it, what was left out) of one image or a folder of images."""
    if place.is_file() and place.name.lower().endswith(EXTENSIONS):
        return place.parent, [place.name], ""
    if not place.is_dir():
        why = f"it is not a folder or a file of {FORMATS_TEXT}" if place.exists() else "there is nothing there"
        raise SightlineError("cannot find images", where=str(place), why=why, cure="check the path")
    tally: Counter[str] = Counter()
    names = [file.name for file in images_below(str(place), "", tally)]
    if not names:
        why = f"the folder holds {left_out(tally) or 'nothing'}"
        raise SightlineError(
            "no images found", where=str(place), why=why, cure=f"give a folder of {FORMATS_TEXT} files"
        )
    return place, names, left_out(tally)


def batched(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Consecutive pieces of `size` names."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


def read_chunk(root: Path, names: Sequence[str], size: int, max_pixels: int) -> tuple[torch.Tensor, dict[str, str]]:
    """(the readable images as uint8 [G, 3, h, w], error by name of the others).

    As the cache has it, so that predictions equal the run's own: images that share one size not larger than `size`
    stay as they are (the model's transform resizes them), others are squashed to the square.
    """

    def read(name: str) -> Image.Image | SightlineError:
        try:
            return open_image(str(root / name), max_pixels, size)
        except SightlineError as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, names))
    found = [result for result in results if isinstance(result, Image.Image)]
    errors = {n: r.why or r.what for n, r in zip(names, results, strict=True) if isinstance(r, SightlineError)}
    native = len({image.size for image in found}) == 1 and max(found[0].size) <= size
    arrays = [planes(image) if native else fit(image, size) for image in found]
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0, 3, size, size), errors


def with_weights(model: nn.Module, checkpoint: Path) -> nn.Module:
    """A copy of the model with the weights of a checkpoint folder, ready to evaluate."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(load_model(checkpoint)[0])
    return copied.eval()


@torch.inference_mode()
def mean_probabilities(models: Sequence[nn.Module], pixels: torch.Tensor, parts: Inference) -> np.ndarray:
    """Mean of the models' probabilities, float32 [N, K], of images uint8 [N, 3, h, w]."""
    images, found = parts.transform(pixels.to(parts.device)), []
    for model in models:
        with autocast(parts.device, parts.dtype):
            logits = model(images)
        found.append(logits.float().softmax(1).cpu().numpy())
    return np.stack(found).mean(0, dtype=np.float64).astype(np.float32)


def row_of(name: str, error: str, classes: tuple[str, ...], rows: Iterator[np.ndarray]) -> list[str]:
    """One CSV row: the next probabilities, or empty fields and the error."""
    if error:
        return [name, "", "", *[""] * len(classes), " ".join(error.split())]
    probabilities = next(rows)
    best = int(probabilities.argmax())
    return [name, classes[best], f"{probabilities[best]:.9g}", *[f"{value:.9g}" for value in probabilities], ""]


def write_row(file: IO[bytes], values: Sequence[str]) -> None:
    """One line of CSV; names that are not UTF-8 keep their bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    file.write(text.getvalue().encode("utf-8", "surrogateescape"))
