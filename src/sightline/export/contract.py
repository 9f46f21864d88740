"""What a task provides for an export to ONNX."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..data.types import Items
from .parity import Parity
from .session import OnnxSession

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """A metric of the float32 and the int8 graph, the difference and its paired 95 % interval, as shares."""

    metric: str
    values: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    changed: str


class TaskGraph:
    """Base class: the graph of a run, and its checks on the validation images.

    network: images uint8 [N, 3, H, W] -> outputs. outputs: their descriptions by name. smallest: lower limit of the
    image sides. metric: its name in the run's results. digest: of the images of `split`. train: images to calibrate
    on. sample: validation images uint8 [N, 3, H, W] to measure the speed with.
    """

    network: nn.Module
    outputs: dict[str, str]
    smallest: int
    metric: str
    split: str
    digest: str
    train: Items
    sample: np.ndarray

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare the graph with PyTorch, and keep its results for `cost`."""
        raise NotImplementedError

    def cost(self, graph: OnnxSession) -> Cost:
        """Compare a quantized graph with the one that `compare` was given."""
        raise NotImplementedError
