"""Class activation maps: which positions of an image raise a network's output for a class."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

Layer = tuple[nn.Module, int, int]
"""A module, which of its calls in a forward pass, and the dimension of the channels in its output, 1 or 3."""


def class_maps(
    backbone: nn.Module,
    head: Callable[[Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    layer: Layer | None = None,
) -> Tensor | None:
    """How much each position of an image raises the output for a class: float32 [N, h, w], at least 0.

    The values are activation times gradient, summed over the channels of the last layer of the backbone that has
    positions (HiResCAM, arXiv 2011.08891). If the mean over the positions and a linear head follow, these are the
    contributions to the output, and their sum is the output without the bias; for other networks they are those of the
    tangent. Positions that lower the output are 0.

    backbone, in evaluation mode: images -> features [N, D]. head: features -> outputs [N, K]. images: [N, C, H, W], as
    prepared for the network. classes: int64 [N], the output to explain for each image. layer: that of `last_layer`;
    None: searched by one more forward pass. None for a network whose last layer with positions has tokens, such as a
    vision transformer, and for one without positions.
    """
    if (found := layer or last_layer(backbone, images[:1])) is None:
        return None
    module, call, channel = found
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has set
        images, classes = images.clone(), classes.clone()  # tensors of the inference mode have no gradients
        with torch.no_grad(), cut(module, call) as kept:
            # From this layer on, gradients are recorded; before, they would only take memory.
            outputs = head(backbone(images)).float()
        (gradient,) = torch.autograd.grad(outputs.gather(1, classes[:, None]).sum(), kept)
    return (gradient * kept[0].detach()).float().sum(channel).clamp_min(0)


def last_layer(backbone: nn.Module, image: Tensor) -> Layer | None:
    """The last layer with several positions. image: [1, C, H, W], as prepared for the network."""
    seen: list[tuple[nn.Module, torch.Size]] = []

    def record(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append((module, output.shape))

    hooks = [module.register_forward_hook(record) for module in backbone.modules() if module is not backbone]
    try:
        with torch.no_grad():
            width = backbone(image).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    for module, shape in reversed(seen):
        if len(shape) == 3 and shape[1] > 1:  # tokens
            return None
        if len(shape) == 4:
            channel = 3 if shape[3] == width != shape[1] else 1
            if shape.numel() > shape[0] * shape[channel]:
                return module, sum(other is module for other, _ in seen), channel
    return None


@contextmanager
def cut(layer: nn.Module, call: int) -> Generator[list[Tensor]]:
    """Context manager: the output of a call of `layer` is a leaf of the graph, which is in the list, and from there on
    gradients are recorded."""
    kept: list[Tensor] = []
    calls = 0

    def start(module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls != call:
            return None
        torch.set_grad_enabled(True)  # until the end of the caller's `no_grad`
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # which later layers may change in place

    hook = layer.register_forward_hook(start)
    try:
        yield kept
    finally:
        hook.remove()


def enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map [h, w] enlarged to [height, width] by bilinear interpolation, with 1 as its largest value; 0 if all are."""
    scaled = values / max(float(values.max()), 1e-30)
    picture = Image.fromarray(scaled.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
