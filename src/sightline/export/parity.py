"""Comparison of the predictions of an exported graph with those of PyTorch on the validation set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ENVIRONMENT, SightlineError, listing

TIE = 1e-4
"""If the two largest probabilities of an image or pixel differ by less than this in PyTorch, rounding may change the
predicted class."""
FAR = 0.01
"""If two probabilities, of PyTorch and of the graph, differ by more than this, rounding is not the reason."""
MOST_CHANGED = 0.01
"""Maximum share of images whose predicted class may change if the graph itself resizes the image files."""


@dataclass
class Parity:
    """Agreement between PyTorch and an exported graph, accumulated batch by batch.

    metric: name of the metric. values: the metric with PyTorch and with the graph. unit: what is compared, "images" or
    "pixels". items: their number. differ: the number with a different predicted class. ties: the number of these whose
    two largest probabilities are within TIE. largest: the largest difference between two probabilities. from_files:
    whether the graph resized the image files itself. stored: the predictions of the run that take the place of
    PyTorch's, such as predictions/val.csv; "" for PyTorch. examples: names of images with a different class.
    """

    metric: str
    unit: str = "images"
    from_files: bool = False
    stored: str = ""
    values: tuple[float, float] = (0.0, 0.0)
    items: int = 0
    differ: int = 0
    ties: int = 0
    largest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, names: Sequence[str], probabilities: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> None:
        """Add a batch.

        probabilities: of PyTorch and of the graph, [N, K, ...] each. labels: predicted classes of both, [N, ...] each.
        """
        apart = (labels[0] != labels[1]).reshape(len(names), -1)
        top = np.partition(probabilities[0], -2, axis=1)[:, -2:] if probabilities[0].shape[1] > 1 else None
        close = np.zeros_like(apart) if top is None else (top[:, 1] - top[:, 0] < TIE).reshape(apart.shape) & apart
        gap = float(np.abs(probabilities[0] - probabilities[1]).max())
        self.largest = max(self.largest, gap) if np.isfinite(gap) else float("inf")
        self.items, self.differ = self.items + apart.size, self.differ + int(apart.sum())
        self.ties += int(close.sum())
        pixels = apart.shape[1]
        for name, count in zip(names, (apart & ~close).sum(1), strict=True):
            if count and len(self.examples) < 10:
                self.examples.append(name if pixels == 1 else f"{name}: {count:,} of {pixels:,} pixels")

    def __str__(self) -> str:
        of = f"{self.items:,} {self.unit}".removesuffix(" images")
        program = "ONNX from the files" if self.from_files else "ONNX"
        line = f"{self.metric}: {self.stored or 'PyTorch'} {self.values[0]:.4f}, {program} {self.values[1]:.4f}, "
        line += f"{self.differ:,} of {of} differ; probabilities by at most {self.largest:.1e}"
        if self.ties:
            which = "all" if self.ties == self.differ else f"{self.ties:,}"
            line += f" ({which} of these are ties, with two probabilities within {TIE:g})"
        return line

    def as_dict(self) -> dict[str, Any]:
        """The result as an element of `checks` in model.json."""
        numbers = {self.stored or "pytorch": self.values[0], "onnx": self.values[1], "largest_difference": self.largest}
        counts = {"items": self.items, "unit": self.unit, "differ": self.differ, "ties": self.ties}
        return {"metric": self.metric, **numbers, **counts, "examples": self.examples}

    def require(self, path: Path) -> None:
        """Raise SightlineError if the differences are larger than rounding explains. path: where the rejected graph
        is saved. Nothing is raised for stored predictions: they may be those of an earlier version or epoch."""
        if self.stored:
            return
        if self.from_files:
            good = self.differ <= max(1, MOST_CHANGED * self.items)
            cure = (
                "resize images to at most six times the model's size before they enter the graph, which was saved as "
                f"{path}"
            )
        else:
            good = self.differ == self.ties and self.largest <= FAR
            cure = (
                f"try another version of torch or onnxruntime; do not use the rejected graph, which was saved as {path}"
            )
        if not good:
            what = "not exported: the predictions of the graph differ from those of PyTorch"
            why = "\n".join(filter(None, (str(self), listing(self.examples))))
            raise SightlineError(what, where=str(path), why=why, cure=cure, status=ENVIRONMENT)
