"""Pictures in, CSV out: bounded memory, and a file that cannot be read becomes a row that says why."""

import copy
import csv
import io
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import nn

from . import runs
from .build_classify import Inference, build_for_inference
from .checkpoint import load_model
from .columns import PREDICT_COLUMNS, class_columns
from .data.images import open_image, planes
from .data.scan import EXTENSIONS, FORMATS_TEXT, images_below, left_out
from .device import autocast
from .errors import SightlineError
from .files import atomic_write
from .memory import explained_memory
from .settings import load_recipe_file
from .tasks.classify import mirror_mean


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    overlay: bool = False,
    tile: int = 1024,
    quiet: bool = False,
) -> Path:
    """Classify or segment one image or all images below a folder with a run's shipped weights.

    A classifier writes a CSV; its path is returned. A segmenter writes masks into the folder `out`, see
    `predict_masks.predict_masks`; overlay and tile are for it alone.

    Columns: filename (relative to the folder), label, confidence, one probability a class, error. The file appears
    when it is complete.
    """
    folder = runs.existing(run)
    root, names, left = list_images(Path(images))
    config = load_recipe_file(folder / "recipe.yaml")
    if config.task == "segment":
        from .predict_masks import predict_masks

        say = (lambda text: None) if quiet else print
        if left:
            say(f"left out: {left}")
        with explained_memory(config, cure=f"smaller tiles: --tile {max(64, tile // 2)}"):
            return predict_masks(folder, config, root, names, Path(out), overwrite, overlay, tile, say)
    if config.task == "byol":
        why = "pre-training without labels knows no classes"
        cure = f"train a classifier on it first: sightline train ... --model.weights {shlex.quote(str(folder))}"
        raise SightlineError("this run has nothing to predict", where=str(folder), why=why, cure=cure)
    target = usable_target(Path(out), overwrite)
    precision = runs.provenance(folder).get("precision", "auto")
    parts = build_for_inference(folder, config, precision)
    models = [with_weights(parts.model, place) for place in runs.shipped_checkpoints(folder)]
    bad: list[str] = []

    def write(file: IO[bytes]) -> None:
        write_row(file, [*PREDICT_COLUMNS, *class_columns(parts.classes), "error"])
        for chunk in batched(names, config.train.eval_batch_size):
            groups, errors = read_chunk(root, chunk, parts, config.data.max_pixels)
            found: dict[str, np.ndarray] = {}
            for members, pixels in groups:
                rows = mean_probabilities(models, pixels, parts, config.train.flip_test)
                found |= dict(zip(members, rows, strict=True))
            for name in chunk:
                write_row(file, row_of(name, errors.get(name, ""), parts.classes, found.get(name)))
            bad.extend(errors)

    with explained_memory(config, f"{folder}/recipe.yaml"):
        atomic_write(target, write)
    if not quiet:
        print(f"{len(names) - len(bad):,} images classified" + (f"; left out: {left}" if left else ""))
        if bad:
            print(f"{len(bad):,} could not be read; their rows say why, the first: {bad[0]}")
    return target


def usable_target(out: Path, overwrite: bool) -> Path:
    """The CSV to write: `out`, or predictions.csv in it where it is a folder; never a picture."""
    target = out / "predictions.csv" if out.is_dir() else out
    if target.name.lower().endswith(EXTENSIONS):
        why = "its name is that of an image"
        raise SightlineError("predictions are a table", where=str(target), why=why, cure="--out predictions.csv")
    if target.is_dir() or (target.exists() and not overwrite):
        cure = "another --out" if target.is_dir() else "another --out, or --overwrite"
        raise SightlineError("the output exists", where=str(target), cure=cure)
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


def read_chunk(
    root: Path, names: Sequence[str], parts: Inference, max_pixels: int
) -> tuple[list[tuple[list[str], torch.Tensor]], dict[str, str]]:
    """([(names, their images as uint8 [G, 3, h, w])], error by name of the unreadable ones).

    As the run's validation images were decoded, so that predictions equal the run's own: images of exactly their size
    stay as they are (the model's transform resizes them), all others become the model's square.
    """

    def read(name: str) -> np.ndarray | SightlineError:
        try:
            image = open_image(str(root / name), max_pixels, parts.square.side)
        except SightlineError as error:
            return error
        return planes(image) if image.size[::-1] == parts.kept else parts.square.of(image)

    with ThreadPoolExecutor() as pool:
        results = dict(zip(names, pool.map(read, names), strict=True))
    errors = {name: r.why or r.what for name, r in results.items() if isinstance(r, SightlineError)}
    by_shape: dict[tuple[int, ...], list[str]] = {}
    arrays = {name: array for name, array in results.items() if isinstance(array, np.ndarray)}
    for name, array in arrays.items():
        by_shape.setdefault(array.shape, []).append(name)
    groups = [(same, torch.from_numpy(np.stack([arrays[name] for name in same]))) for same in by_shape.values()]
    return groups, errors


def with_weights(model: nn.Module, checkpoint: Path) -> nn.Module:
    """A copy of the model with the weights of a checkpoint folder, ready to evaluate."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(load_model(checkpoint)[0])
    return copied.eval()


@torch.inference_mode()
def mean_probabilities(models: Sequence[nn.Module], pixels: torch.Tensor, parts: Inference, flip: bool) -> np.ndarray:
    """Mean of the models' probabilities, float32 [N, K], of images uint8 [N, 3, h, w]; flip: and of their mirrors."""
    images, found = parts.transform(pixels.to(parts.device)), []
    for model in models:
        with autocast(parts.device, parts.dtype):
            logits = model(images)
            if flip:
                logits = mirror_mean(logits, model(images.flip(3)))
        found.append(logits.float().softmax(1).cpu().numpy())
    return np.stack(found).mean(0, dtype=np.float64).astype(np.float32)


def row_of(name: str, error: str, classes: tuple[str, ...], probabilities: np.ndarray | None) -> list[str]:
    """One CSV row: the probabilities, or empty fields and the error."""
    if probabilities is None:
        return [name, "", "", *[""] * len(classes), " ".join(error.split())]
    best = int(probabilities.argmax())
    return [name, classes[best], f"{probabilities[best]:.9g}", *[f"{value:.9g}" for value in probabilities], ""]


def write_row(file: IO[bytes], values: Sequence[str]) -> None:
    """One line of CSV; names that are not UTF-8 keep their bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    file.write(text.getvalue().encode("utf-8", "surrogateescape"))
