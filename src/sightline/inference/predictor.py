"""Compute class probabilities and features of images with trained networks."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.channels import RGB, Channels
from ..data.decode.images import Square, planes
from ..data.decode.kinds import Raster
from ..engine.device import autocast
from ..runs.checkpoint import load_model
from ..runs.csv_io import PREDICT_COLUMNS, class_columns


def mirror_mean(logits: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Log of the mean probabilities [N, K] of images and their mirror images, from the logits of both."""
    both = torch.logaddexp(logits.float().log_softmax(1), mirrored.float().log_softmax(1))
    # The logarithm of the mean of probabilities would underflow to -inf, and the loss would be infinite.
    return both - math.log(2)


def most_probable(probabilities: np.ndarray, classes: Sequence[str]) -> tuple[str, float]:
    """The class with the highest probability, and this probability. probabilities: [K]."""
    best = int(probabilities.argmax())
    return classes[best], float(probabilities[best])


@dataclass(frozen=True)
class Decision:
    """How logits become probabilities and a label; by default for one label per image.

    probabilities: logits float32 [N, K] -> [N, K]. mirror_mean: (logits, those of the mirror images) -> logits of the
    mean. label: (probabilities [K], classes) -> (text, confidence); None if the outputs are predicted numbers.
    """

    probabilities: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits.softmax(1)
    mirror_mean: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = mirror_mean
    label: Callable[[np.ndarray, Sequence[str]], tuple[str, float]] | None = most_probable


@dataclass(frozen=True)
class Predictor:
    """Trained networks with their preprocessing.

    models: in evaluation mode; several are an ensemble. classes: class names; empty for a backbone without a head.
    transform: images [N, C, h, w] -> network input. square: how images are resized before the transform; images of the
    size `decoded_size` (height, width) are not. flip: whether to average over each image and its mirror image.
    features: whether to return features. dtype: of the computation; bfloat16 for speed only. normalization: mean and
    standard deviation of each channel, () if unknown.
    """

    models: Sequence[nn.Module]
    classes: tuple[str, ...]
    transform: Callable[[torch.Tensor], torch.Tensor]
    square: Square
    decoded_size: tuple[int, int]
    device: torch.device
    flip: bool
    features: bool
    decision: Decision = Decision()
    dtype: torch.dtype = torch.float32
    channels: Channels = RGB
    normalization: tuple[tuple[float, ...], ...] = ()

    def resized(self, image: Image.Image | Raster) -> np.ndarray:
        """Resize an image as the validation images of the run were resized: [C, h, w], uint8 [3, h, w] for RGB.

        An image of the size `decoded_size` is not resized here, but later by the transform.
        """
        return planes(image) if image.size[::-1] == self.decoded_size else self.square.of(image)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of an image that the network sees: (left, top, right, bottom) in pixels."""
        kept = (height, width) == self.decoded_size  # the transform crops it as `squash` does
        return (replace(self.square, fit="squash") if kept else self.square).box(width, height)

    @property
    def columns(self) -> list[str]:
        """The columns of the table of predictions: filename, label, confidence, one for each class, error.

        Without classes: filename, error. For numbers: filename, one for each number, error.
        """
        first = PREDICT_COLUMNS if self.classes and self.decision.label else PREDICT_COLUMNS[:1]
        return [*first, *class_columns(self.classes), "error"]

    @torch.inference_mode()
    def predict(self, pixels: torch.Tensor) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Predict images [N, C, h, w]: (probabilities float32 [N, K] or None, features float32 [N, D] or None).

        Probabilities are the mean over models and mirror images; None without classes. Features are those of the last
        model, for the images that are not mirrored; None unless requested.
        """
        images, found, features = self.transform(pixels.to(self.device)), [], None
        for model in self.models:
            with autocast(self.device, self.dtype):
                penultimate = model.features(images)  # ty: ignore[not-callable]
                logits = model.head(penultimate) if self.classes else None  # ty: ignore[not-callable]
                if self.flip and logits is not None:
                    logits = self.decision.mirror_mean(logits, model(images.flip(3)))
            if logits is not None:
                found.append(self.decision.probabilities(logits.float()).cpu().numpy())
            if self.features:
                features = penultimate.float().cpu().numpy()
        return np.stack(found).mean(0, dtype=np.float64).astype(np.float32) if found else None, features


def with_weights(model: nn.Module, checkpoint: Path) -> nn.Module:
    """A copy of the model with the weights of a checkpoint folder, in evaluation mode."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(load_model(checkpoint)[0])
    return copied.eval()
