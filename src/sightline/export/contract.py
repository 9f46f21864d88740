"""Interfaces of the ONNX export: `TaskGraph`, which a task implements, and `Cost`."""

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
    """The effect of quantization on a metric.

    values: of the float32 and of the int8 graph. difference, interval: int8 minus float32 and its paired 95 % interval.
    All are shares. changed: a phrase on the images that were compared.
    """

    metric: str
    values: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    changed: str


class TaskGraph:
    """Base class: the network that a task exports, and the data to check it with.

    network: images uint8 [N, 3, H, W] -> outputs. outputs: description of each output by name. smallest: minimum height
    and width of images. metric: name of the task's metric in the run's results. split: the split of the check. digest:
    of its images. train: images for the calibration of int8. sample: validation images uint8 [N, 3, H, W] for the
    measurement of the speed.
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
        """Compare the exported graph with PyTorch; its predictions are stored for `cost`."""
        raise NotImplementedError

    def cost(self, graph: OnnxSession) -> Cost:
        """Compare a quantized graph with the graph that was passed to `compare`."""
        raise NotImplementedError
