"""Interfaces of the ONNX export: `TaskGraph`, which each task implements, and `Cost`, the effect of quantization."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..data.channels import RGB, Channels
from ..data.types import Items
from .parity import Parity
from .session import OnnxSession

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """The effect of quantization on a metric; all values are shares of 1.

    metric: its name. values: of the float32 graph and of the int8 graph. difference: int8 minus float32. interval: 95 %
    interval of the difference, paired by image. changed: a phrase on the images that were compared.
    """

    metric: str
    values: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    changed: str


class TaskGraph:
    """Base class: the network that a task exports, and the data with which the exported graph is checked.

    network: module from images [N, C, H, W] of the `channels` to the outputs. outputs: a description of each by name.
    smallest: minimum height and width of images. split: name of the split on which graph and PyTorch are compared.
    digest: of the images of that split. train: training images, for the calibration of int8. sample: validation images
    [N, C, H, W], for the measurement of the speed. metadata: further entries of the graph's metadata, stored as
    JSON.
    """

    network: nn.Module
    outputs: dict[str, str]
    smallest: int
    split: str
    digest: str
    train: Items
    sample: np.ndarray
    channels: Channels = RGB
    metadata: Mapping[str, Any] = {}

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare the exported graph with PyTorch on the validation images, and with the predictions in the run folder.
        The graph's predictions are stored for `cost`."""
        raise NotImplementedError

    def cost(self, graph: OnnxSession) -> Cost:
        """Compare the predictions of a quantized graph with those of the graph that was passed to `compare`."""
        raise NotImplementedError
