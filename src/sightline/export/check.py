"""Does the file say what PyTorch says? Both look at the validation set, through onnxruntime and through torch."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.cache import Decoded
from ..data.decode.images import planes
from ..data.loader import evaluation_batches
from ..data.pair_cache import DecodedPairs
from ..data.sources.open import Items
from ..errors import ENVIRONMENT, SightlineError, listing
from ..inference.tiles import likeliest
from ..tasks.segment.metrics import confusion_per_image, mean_iou, summed
from ..tasks.segment.task import Segment
from .runtime import load_onnxruntime

TIE = 1e-4
"""Where the two likeliest classes lie closer together in PyTorch, rounding alone may turn them around."""
FAR = 0.01
"""Probabilities of the same pixels that differ by more are no rounding, whichever class is the likeliest."""
CHUNK = 32
"""Pictures that are read and run at a time."""
MOST_MOVED = 0.01
"""Share of the pictures to which resizing in the graph may give another class than Sightline's own reading of them."""


@dataclass(frozen=True)
class Compared:
    """What two programs say about the same items.

    metric: its name. values: of PyTorch and of the other. unit, items, differ: of what and of how many the likeliest
    class was compared, and of how many it differs. ties: how many of these PyTorch itself all but leaves open. largest:
    difference of any two probabilities. examples: some that differ and are no ties, in words. other: who was compared.
    """

    metric: str
    values: tuple[float, float]
    items: int
    differ: int
    ties: int
    largest: float
    examples: tuple[str, ...] = ()
    unit: str = ""
    other: str = "ONNX"

    @property
    def real(self) -> int:
        """How many differ by more than rounding explains."""
        return self.differ - self.ties

    def __str__(self) -> str:
        of = f"{self.items:,} {self.unit}".strip()
        line = f"{self.metric}: PyTorch {self.values[0]:.4f}, {self.other} {self.values[1]:.4f}, "
        line += f"{self.differ:,} of {of} differ; probabilities by at most {self.largest:.1e}"
        if self.ties:
            whose = "all" if self.ties == self.differ else f"{self.ties:,}"
            line += f" ({whose} of these are ties: two classes within {TIE:g} of each other)"
        return line

    def as_dict(self) -> dict[str, Any]:
        """For the file of the export's facts."""
        numbers = {"pytorch": self.values[0], "onnx": self.values[1], "largest_difference": self.largest}
        counts = {"items": self.items, "unit": self.unit or "images", "differ": self.differ, "ties": self.ties}
        return {"metric": self.metric, **numbers, **counts, "examples": list(self.examples)}


class Graph:
    """An ONNX model in onnxruntime on the processor, with as many threads as torch uses."""

    def __init__(self, model: bytes):
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common type below Exception
            raise unusable(error) from error

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for images uint8 [N, 3, H, W]."""
        names = [output.name for output in self.session.get_outputs()]
        try:
            found = self.session.run(names, {"images": np.ascontiguousarray(images)})
        except Exception as error:
            raise unusable(error) from error
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}


def unusable(error: Exception) -> SightlineError:
    """onnxruntime refuses what torch wrote."""
    why, cure = str(error).strip().splitlines()[0], "another version of onnxruntime or torch, or --format safetensors"
    return SightlineError("onnxruntime cannot run the graph", why=why, cure=cure, status=ENVIRONMENT)


def tied(probabilities: np.ndarray) -> np.ndarray:
    """bool [N]: whether the two largest of probabilities [N, K] lie within TIE of each other."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), bool)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return top[:, 1] - top[:, 0] < TIE


def compare(torch_: np.ndarray, other: np.ndarray, decoded: Decoded, name: str = "ONNX") -> Compared:
    """Probabilities [N, K] of PyTorch and of another program for the pictures of a split, in its order."""
    labels = decoded.labels
    assert labels is not None
    own, found = torch_.argmax(1), other.argmax(1)
    apart, open_ = own != found, tied(torch_)
    classes = decoded.classes
    examples = [
        f"{decoded.names[i]}: PyTorch {classes[own[i]]} ({torch_[i, own[i]]:.4f}), "
        f"{name} {classes[found[i]]} ({other[i, found[i]]:.4f})"
        for i in np.flatnonzero(apart & ~open_)[:10]
    ]
    return Compared(
        metric="accuracy",
        values=(float((own == labels).mean()), float((found == labels).mean())),
        items=len(own),
        differ=int(apart.sum()),
        ties=int((apart & open_).sum()),
        largest=float(np.abs(torch_ - other).max()) if np.isfinite(other).all() else float("inf"),
        examples=tuple(examples),
        other=name,
    )


def graph_probabilities(graph: Graph, decoded: Decoded) -> np.ndarray:
    """float32 [N, K] of the pictures as Sightline's cache holds them."""
    starts = range(0, len(decoded.names), CHUNK)
    return np.concatenate([graph(decoded.images[start : start + CHUNK])["probabilities"] for start in starts])


def file_probabilities(graph: Graph, items: Items, decoded: Decoded, same: np.ndarray) -> np.ndarray | None:
    """float32 [N, K] of the pictures as they are stored, at full size, resized by the graph; None where none needs it.

    same: the probabilities of the pixels in the cache, which are taken for pictures that are stored in that size.
    """
    places = {name: place for place, name in enumerate(items.names)}  # unreadable pictures may have been left out
    found, any_other = same.copy(), False
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(decoded.names), CHUNK):
            names = decoded.names[start : start + CHUNK]
            images = pool.map(lambda name: planes(items.read(places[name])), names)
            for row, image in enumerate(images, start):
                if image.shape != decoded.images.shape[1:]:
                    found[row], any_other = graph(image[None])["probabilities"][0], True
    return found if any_other else None


@dataclass
class MaskTally:
    """What is counted of masks, batch by batch; `confusions`: [N, K, K] of PyTorch and of the other program."""

    confusions: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))
    pixels: int = 0
    differ: int = 0
    ties: int = 0
    largest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, names: Sequence[str], probabilities: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> None:
        """One batch: of both programs probabilities [N, K, H, W] and masks uint8 [N, H, W]."""
        apart = masks[0] != masks[1]
        top = np.partition(probabilities[0], -2, axis=1)[:, -2:]
        close = apart & (top[:, 1] - top[:, 0] < TIE)
        gap = float(np.abs(probabilities[0] - probabilities[1]).max())
        self.largest = max(self.largest, gap) if np.isfinite(gap) else float("inf")
        self.pixels, self.differ, self.ties = (
            self.pixels + apart.size,
            self.differ + int(apart.sum()),
            self.ties + int(close.sum()),
        )
        for name, count in zip(names, (apart & ~close).sum((1, 2)), strict=True):
            if count and len(self.examples) < 10:
                self.examples.append(f"{name}: {count:,} of {apart[0].size:,} pixels")


def compare_masks(
    task: Segment, graph: Graph, decoded: DecodedPairs, batch_size: int
) -> tuple[Compared, tuple[np.ndarray, np.ndarray]]:
    """Masks and probabilities of PyTorch and of the graph for a split, and the confusions [N, K, K] of both."""
    tally = MaskTally()
    task.parameters().eval()
    with torch.inference_mode():
        for batch in evaluation_batches(decoded, batch_size):
            assert batch.labels is not None
            logits = task.logits(batch.images).float()
            own = torch.stack([likeliest(scores) for scores in logits]).numpy()
            found = graph(batch.images.numpy())
            names = [decoded.names[place] for place in batch.samples.tolist()]
            masks = (own, found["mask"])
            tally.add(names, (logits.softmax(1).numpy(), found["probabilities"]), masks)
            for place, mask in enumerate(masks):
                counted = confusion_per_image(mask, batch.labels.numpy(), task.classes)
                tally.confusions[place].append(counted)
    both = (np.concatenate(tally.confusions[0]), np.concatenate(tally.confusions[1]))
    values = (float(mean_iou(summed(both[0]))), float(mean_iou(summed(both[1]))))
    counts = (tally.pixels, tally.differ, tally.ties, tally.largest)
    return Compared("mean IoU", values, *counts, tuple(tally.examples), unit="pixels"), both


def refuse(compared: Compared, kept: Path) -> None:
    """SightlineError where the two programs differ by more than rounding; kept: where the refused file lies."""
    if not compared.real and compared.largest <= FAR:
        return
    why = str(compared)
    if compared.examples:
        why += "\n" + listing(compared.examples)
    cure = f"the file lies at {kept} for a closer look, and is not to be used; another version of torch or onnxruntime"
    raise SightlineError(
        f"not exported: {compared.other} differs from PyTorch", where=str(kept), why=why, cure=cure, status=ENVIRONMENT
    )


def refuse_moved(compared: Compared, kept: Path) -> None:
    """SightlineError where the graph's own resize gives another class to more than a few of the pictures."""
    if compared.differ <= max(1, MOST_MOVED * compared.items):
        return
    why = f"{compared}\n{listing(compared.examples)}"
    cure = f"give such pictures to the graph already shrunk to at most six times its side; the file lies at {kept}"
    raise SightlineError(
        "not exported: resized in the graph, the pictures get other classes", where=str(kept), why=why, cure=cure
    )


def images_per_second(graphs: Sequence[Graph], images: np.ndarray, seconds: float = 2.0) -> list[float]:
    """Images uint8 [N, 3, H, W] that each graph takes in a second, as one batch; the median of runs that alternate."""
    times: list[list[float]] = [[] for _ in graphs]
    for graph in graphs:
        graph(images)
    begun = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begun < seconds:
        for graph, own in zip(graphs, times, strict=True):
            start = time.perf_counter()
            graph(images)
            own.append(time.perf_counter() - start)
    return [len(images) / float(np.median(own)) for own in times]
