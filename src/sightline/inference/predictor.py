"""Probabilities and features of images by a network with trained weights."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..data.decode.images import Square
from ..engine.device import autocast
from ..runs.checkpoint import load_model


@dataclass(frozen=True)
class Predictor:
    """models: networks with weights, in evaluation mode; several are an ensemble. classes: empty where none are known.

    transform: uint8 [N, 3, h, w] -> float. square: what pictures become before, unless they have the `kept` size.
    flip: mirrors count too. features: whether these are wanted.
    """

    models: Sequence[nn.Module]
    classes: tuple[str, ...]
    transform: Callable[[torch.Tensor], torch.Tensor]
    square: Square
    kept: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    flip: bool
    features: bool

    @torch.inference_mode()
    def of(self, pixels: torch.Tensor) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(probabilities float32 [N, K], features float32 [N, D]) of images uint8 [N, 3, h, w]; None for what is not
        known or not wanted. Probabilities are the mean over models and mirrors, features of the image as it is."""
        images, found, features = self.transform(pixels.to(self.device)), [], None
        for model in self.models:
            with autocast(self.device, self.dtype):
                wide = model.features(images)  # ty: ignore[not-callable]
                logits = model.head(wide) if self.classes else None  # ty: ignore[not-callable]
                if self.flip and logits is not None:
                    logits = mirror_mean(logits, model(images.flip(3)))
            if logits is not None:
                found.append(logits.float().softmax(1).cpu().numpy())
            if self.features:
                features = wide.float().cpu().numpy()
        return np.stack(found).mean(0, dtype=np.float64).astype(np.float32) if found else None, features


def in_precision(predictor: Predictor, name: str) -> Predictor:
    """The answers in float32 or bfloat16 where the name is one of these; else as they are."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return replace(predictor, dtype=known[name]) if name in known else predictor


def with_weights(model: nn.Module, checkpoint: Path) -> nn.Module:
    """A copy of the model with the weights of a checkpoint folder, ready to evaluate."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(load_model(checkpoint)[0])
    return copied.eval()


def mirror_mean(logits: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Logits [N, K] of the mean of the probabilities of images and of their mirror images."""
    both = torch.logaddexp(logits.float().log_softmax(1), mirrored.float().log_softmax(1))
    return both - math.log(2)  # not the logarithm of the mean, which ends where float32 does: a loss would be infinite
