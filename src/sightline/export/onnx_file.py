"""`sightline export --format onnx`: build the graph, check it on the validation images, and only then name it so."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..commands import changed
from ..config.schema import Config
from ..data.cache import Decoded, decode
from ..data.decode.decoding import size_text
from ..data.pair_cache import DecodedPairs, decode_pairs
from ..data.sources.open import Items, open_source
from ..data.sources.pairs import open_pairs
from ..errors import SightlineError
from ..inference.evaluation import chosen_split
from ..inference.predictor import with_weights
from ..models.segmenters import Segmenter
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite, write_json
from ..runs.checkpoint import description_of
from ..tasks.classify.build import build_for_inference
from ..tasks.classify.evaluate import with_classes
from ..tasks.classify.results import evaluate_checkpoints
from ..tasks.segment.evaluate import MaskInference, load_segmenter
from . import validation_missing
from .check import (
    Compared,
    Graph,
    compare,
    compare_masks,
    file_probabilities,
    graph_probabilities,
    refuse,
    refuse_moved,
)
from .graph import LARGEST_BYTES, described, require_onnx, traced
from .networks import ClassifierGraph, SegmenterGraph
from .pixels import with_resize

Say = Callable[[str], None]


@dataclass(frozen=True)
class Checked:
    """A graph that says what PyTorch says, and what quantizing it is measured on.

    model: the file. compared: the checks, the first on the same pixels. items: what the graph found, right or wrong
    bool [N] of a classifier, confusions [N, K, K] of a segmenter. train: the training pictures. validation: the
    split that was checked. seconds: what the check took.
    """

    model: bytes
    compared: list[Compared]
    items: np.ndarray
    train: Items
    validation: Decoded | DecodedPairs
    seconds: float


def export_onnx(folder: Path, config: Config, target: Path, int8: bool, say: Say) -> Path:
    """The graph of a run as `target`, and beside it what the check found; returns the file's path."""
    require_onnx()
    checked = (
        segmenter(folder, config, target, say) if config.task == "segment" else classifier(folder, config, target, say)
    )
    facts: dict[str, Any] = {
        "file": target.name,
        "bytes": len(checked.model),
        "checks": [found.as_dict() for found in checked.compared],
        "check_seconds": round(checked.seconds, 1),
    }
    atomic_write(target, checked.model)
    refused_name(target).unlink(missing_ok=True)
    say(f"{target}: {size_text(len(checked.model))}; checked in {checked.seconds:.0f} s")
    write_json(target.with_suffix(".json"), finite(facts))
    if int8:
        from .quantize import quantized

        facts["int8"] = quantized(checked, config, target, say)
        write_json(target.with_suffix(".json"), finite(facts))
    return target


def classifier(folder: Path, config: Config, target: Path, say: Say) -> Checked:
    """The graph of a classifier or an ensemble, checked on the pixels in the cache and from the files themselves."""
    parts = build_for_inference(folder, config, "fp32")
    source = opened(config, lambda: open_source(config.data, config.data.split_seed))
    split = chosen_split(None, source)
    size, kept = parts.square.side, parts.kept
    decoded = decode(source, split, size, config.data, say)
    say_changed(folder, split, decoded, say)
    decoded = with_classes(decoded, parts.classes, source.path)
    folders = run_folder.shipped_checkpoints(folder)
    say(f"writing the graph{f' of {len(folders)} members' if len(folders) > 1 else ''}")
    members = [with_weights(parts.model, place) for place in folders]
    with description_of(folders[0]) as description:
        mean, std = description["preprocessing"]["mean"], description["preprocessing"]["std"]
    network = ClassifierGraph(members, mean, std, config.train.flip_test)
    model = traced(network, torch.rand(2, 3, size, size) * 255, ("probabilities",), "squares", (0,))
    model = with_resize(model, size, parts.square.fit, parts.square.filter, kept)
    content = serialized(described(model, facts_of(folder, folders[0])))
    start = time.monotonic()
    graph = Graph(content)
    batch = config.train.eval_batch_size
    _, arrays = evaluate_checkpoints(parts.task, folders, decoded, batch, parts.device, parts.dtype)
    own = arrays["probabilities"]
    found = graph_probabilities(graph, decoded)
    compared = [compare(own, found, decoded)]
    say(str(compared[0]))
    refused_if(lambda kept: refuse(compared[0], kept), content, target)
    whole = file_probabilities(graph, source.splits[split], decoded, found)
    if whole is not None:
        compared.append(compare(own, whole, decoded, "ONNX from the files"))
        say(f"{compared[1]}: it resizes them itself")
        refused_if(lambda kept: refuse_moved(compared[1], kept), content, target)
    say_precision(folder, folders[0], "accuracy", say)
    right = found.argmax(1) == decoded.labels
    seconds = time.monotonic() - start
    return Checked(content, compared, right, source.splits["train"], decoded, seconds)


def segmenter(folder: Path, config: Config, target: Path, say: Say) -> Checked:
    """The graph of a segmenter, checked on the masks of the validation images."""
    parts = load_segmenter(folder, config)
    parts = MaskInference(parts.task, parts.palette, parts.device, torch.float32, parts.step, parts.epoch)
    source, palette = opened(config, lambda: open_pairs(config.data, config.data.split_seed, known=parts.palette))
    split = chosen_split(None, source)
    decoded = decode_pairs(source, split, palette, config.data, say)
    say_changed(folder, split, decoded, say)
    place = run_folder.shipped_checkpoints(folder)[0]
    say("writing the graph")
    with description_of(place) as description:
        mean, std = description["preprocessing"]["mean"], description["preprocessing"]["std"]
    model = parts.task.model
    assert isinstance(model, Segmenter)
    motions = tuple(range(8)) if config.train.turn_test else (0, 4) if config.train.flip_test else (0,)
    network = SegmenterGraph(model.eval(), mean, std, motions)
    # Sides of no power of two, and different ones: else the exporter takes them for one length, or for a constant.
    example = torch.randint(
        0, 256, (2, 3, max(70, model.smallest + 6), max(100, model.smallest + 36)), dtype=torch.uint8
    )
    graph_model = traced(network, example, ("mask", "probabilities"), "images", (0, 2, 3))
    content = serialized(described(graph_model, facts_of(folder, place)))
    start = time.monotonic()
    compared, confusions = compare_masks(parts.task, Graph(content), decoded, config.train.eval_batch_size)
    say(str(compared))
    refused_if(lambda kept: refuse(compared, kept), content, target)
    say_precision(folder, place, "mean_iou", say)
    seconds = time.monotonic() - start
    return Checked(content, [compared], confusions[1], source.splits["train"], decoded, seconds)


def opened(config: Config, open_: Callable[[], Any]) -> Any:
    """What `open_` gives; where the data has moved, the error says how to name it."""
    try:
        return open_()
    except SightlineError as error:
        raise validation_missing(error, config) from error


def say_changed(folder: Path, split: str, decoded: Decoded | DecodedPairs, say: Say) -> None:
    """Say where the check is not on the images that the run was validated with."""
    if changed(run_folder.provenance(folder), split, decoded.digest):
        say(f"these are not the {split} images that the run began with; the check holds, its numbers are others")


def say_precision(folder: Path, place: Path, metric: str, say: Say) -> None:
    """Say what the run's own number was where it computed it in bfloat16."""
    if run_folder.provenance(folder).get("precision") != "bf16":
        return
    with description_of(place) as description:
        value = (run_folder.Run(folder).metrics or description.get("metrics") or {}).get(metric)
    if isinstance(value, float):
        say(f"the run itself evaluated in bfloat16 ({value:.4f}); its weights, and the graph, are float32")


def facts_of(folder: Path, place: Path) -> dict[str, Any]:
    """What the graph says of itself: everything that is needed to use it, as config.json has it."""
    with description_of(place) as description:
        facts = {key: description.get(key) for key in ("task", "classes", "palette", "preprocessing", "model")}
    segment = facts["task"] == "segment"
    facts["input"] = "images: uint8 [N, 3, H, W], RGB, 0 to 255, of any height and width"
    facts["output"] = (
        "mask: uint8 [N, H, W], places in classes; probabilities: float32 [N, classes, H, W]"
        if segment
        else "probabilities: float32 [N, classes]"
    )
    return facts | {"sightline": __version__, "run": folder.resolve().name}


def serialized(model: Any) -> bytes:
    """The model as the bytes of a file; SightlineError where one file cannot hold it."""
    if model.ByteSize() > LARGEST_BYTES:
        why = f"it has {model.ByteSize() / 1e9:.1f} GB, and an ONNX file of one piece holds 2 GB"
        raise SightlineError("the graph is too large", why=why, cure="--format safetensors, or a smaller ensemble")
    return model.SerializeToString(deterministic=True)


def refused_name(target: Path) -> Path:
    """Where a graph that failed its check lies."""
    return target.with_name(f"{target.stem}.refused{target.suffix}")


def refused_if(check: Callable[[Path], None], content: bytes, target: Path) -> None:
    """Run a check; where it raises, the graph is kept under a name that says so."""
    place = refused_name(target)
    try:
        check(place)
    except SightlineError:
        atomic_write(place, content)
        raise
