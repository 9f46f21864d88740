"""Image classifiers by name, from Sightline, torchvision and timm. A classifier is a backbone and a head."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..errors import SightlineError, of_type
from .fast import fastnet
from .heads import HEADS
from .library import (
    accepted_args,
    alexnet,
    beit_base,
    check_args,
    efficientnet_v2,
    resnet,
    timm_model,
    torchvision_model,
    unknown_model,
)
from .residual import resnet9
from .small import constant, pixels, small_cnn
from .vgg import vgg13_bn

MODELS: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "vgg13_bn": vgg13_bn,
    "resnet9": resnet9,
    "fastnet": fastnet,
    "alexnet": alexnet,
    "resnet18": partial(resnet, "resnet18"),
    "resnet34": partial(resnet, "resnet34"),
    "resnet50": partial(resnet, "resnet50"),
    "resnet101": partial(resnet, "resnet101"),
    "efficientnet_v2_s": partial(efficientnet_v2, "efficientnet_v2_s"),
    "efficientnet_v2_m": partial(efficientnet_v2, "efficientnet_v2_m"),
    "beit_base": beit_base,
    "pixels": pixels,
    "constant": constant,
}
"""Functions that build backbones, [N, C, size, size] -> [N, D], from `size`, the `model.args` and, unless C is 3,
`channels`."""


def model_names() -> tuple[str, ...]:
    """The names of all backbones, for messages."""
    return (*MODELS, "timm/NAME", "torchvision/NAME")


class Classifier(nn.Module):
    """A backbone, images float [N, C, H, W] -> features [N, D], and a head, features -> logits [N, classes]."""

    def __init__(self, backbone: nn.Module, head: nn.Module, channels: int = 3):
        super().__init__()
        self.backbone, self.head, self.channels = backbone, head, channels
        self.frozen = self.fixed_norm = False
        self.trunk = "backbone"

    def features(self, images: Tensor) -> Tensor:
        """The features of images [N, C, H, W], [N, D]: the output of the backbone, which is the input of the head."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def train(self, mode: bool = True) -> "Classifier":
        """Set training mode; a frozen backbone stays in evaluation mode, so its batch-norm statistics do not change.
        With `fixed_norm`, its batch norms do."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        if self.fixed_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_model(
    name: str,
    classes: int,
    size: int = 224,
    args: dict[str, Any] | None = None,
    head: str = "linear",
    channels: int = 3,
) -> Classifier:
    """Build the classifier `name`: a backbone (`build_backbone`) and a head with `classes` outputs. head: name of
    the head, one of HEADS. size: side of the images in pixels. args: keyword arguments of the backbone's builder.
    channels: of the images."""
    backbone, width = build_backbone(name, size, args, channels)
    return Classifier(backbone, HEADS[head](width, classes), channels)


def build_backbone(
    name: str, size: int = 224, args: dict[str, Any] | None = None, channels: int = 3
) -> tuple[nn.Module, int]:
    """Build a backbone for images [N, C, size, size]; return it and the number of its features, D.

    The weights are random, from torch's global generator; nothing is downloaded. name: one of MODELS, `timm/NAME` or
    `torchvision/NAME`. args: keyword arguments of the builder. Raises SightlineError for an unknown name, for invalid
    arguments, and for an image size that the model does not support.
    """
    args = args or {}
    library, slash, inner = name.partition("/")
    if slash and library in ("timm", "torchvision"):
        backbone = checked_build(
            name,
            lambda: (
                timm_model(inner, size, args, channels)
                if library == "timm"
                else torchvision_model(inner, args, channels)
            ),
        )
    else:
        if name not in MODELS:
            raise unknown_model(name, model_names())
        check_args(name, args, accepted_args(MODELS[name], ("size", "channels")))
        more = channel_args(name, MODELS[name], channels)
        backbone = of_type(nn.Module, checked_build(name, lambda: MODELS[name](size=size, **more, **args)), name)
    return backbone, feature_width(backbone, name, size, channels)


def channel_args(name: str, builder: Callable[..., nn.Module], channels: int) -> dict[str, int]:
    """The builder's argument for the number of channels of the images, {} for RGB. Raises SightlineError for a builder
    without it, which can only be one from --code."""
    if channels == 3:
        return {}
    if "channels" not in accepted_args(builder, ()):
        why = "the function that builds it has no argument `channels`"
        cure = (
            "add the argument channels to this function, or train on three of the channels: --data.channels '[1,2,3]'"
        )
        what = f"the model {name} is for images with 3 channels, and these have {channels}"
        raise SightlineError(what, where="model.name", why=why, cure=cure)
    return {"channels": channels}


def checked_build(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """Return build(). Any exception that the called library raises for invalid arguments becomes a SightlineError."""
    try:
        return build()
    except (TypeError, ValueError, AssertionError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        # The libraries raise many types; only the arguments can be invalid here.
        raise SightlineError(
            f"the model {name} cannot be built with these arguments and image size",
            where="model.args, data.size",
            why=str(error).strip() or type(error).__name__,
            cure="change or remove the argument in --model.args, or choose another image size: --data.size NUMBER",
        ) from error


def feature_width(backbone: nn.Module, name: str, size: int, channels: int = 3) -> int:
    """The number of features D of a backbone, [N, C, size, size] -> [N, D]. Raises SightlineError if the backbone
    does not support the image size, or returns another shape."""
    try:
        shape = shape_of(backbone, size, channels)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        smallest = smallest_size(backbone, size, channels)
        raise SightlineError(
            f"the model {name} does not support images of {size} x {size} pixels",
            where="data.size",
            why=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            cure=f"use images of {smallest} pixels or more: --data.size {smallest}"
            if smallest
            else "choose another --data.size or --model.name",
        ) from error
    if shape is None or len(shape) != 2:
        found = "is not one tensor" if shape is None else f"has the shape {tuple(shape)}, not (1, features)"
        cure = "remove arguments that change its output (such as global_pool) from --model.args, or choose another "
        cure += "--model.name"
        if "/" not in name:  # those of libraries have a slash; the built-in ones pass, so it is one of the user's own
            cure = "return one tensor [images, features] in forward()"
            if shape is not None and len(shape) == 4:
                cure += (
                    ", such as the mean of the feature map: maps.mean((2, 3)); a model of masks belongs in SEGMENTERS"
                )
        raise SightlineError(
            f"the model {name} does not return one feature vector per image",
            where="model.name, model.args",
            why=f"its output for one image {found}",
            cure=cure,
        )
    return shape[1]


def shape_of(model: nn.Module, size: int, channels: int = 3) -> torch.Size | None:
    """The shape of the model's output for one image of `size` x `size` pixels; None if the output is not a tensor."""
    output = dry_run(model, size, channels)
    return output.shape if isinstance(output, Tensor) else None


def dry_run(model: nn.Module, size: int | tuple[int, int], channels: int = 3) -> Any:
    """The model's output for one image, in evaluation mode, computed on the meta device: it has shapes, but no
    values. The model is not changed. size: side in pixels, or (height, width)."""
    tensors = {name: value.detach().to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    modes = {module: module.training for module in model.modules()}
    nn.Module.eval(model)
    try:
        with torch.no_grad(), WithoutBatchNorm():
            sides = (size, size) if isinstance(size, int) else size
            return functional_call(model, tensors, (torch.empty(1, channels, *sides, device="meta"),))
    finally:
        for module, mode in modes.items():
            module.training = mode


class WithoutBatchNorm(TorchFunctionMode):
    """Within this context, batch norms return their input, which has the same shape: on the meta device torch computes
    them by dozens of Python functions, which took more than half of the time of a dry run. Those of another number of
    channels raise torch's error."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of `func`, or the first argument of a batch norm."""
        fits = func is functional.batch_norm and (args[1] is None or len(args[1]) == args[0].shape[1])
        return args[0] if fits else func(*args, **(kwargs or {}))


def smallest_size(backbone: nn.Module, size: int, channels: int = 3, largest: int = 512) -> int | None:
    """The smallest image side in pixels, larger than `size`, that the backbone supports; found by bisection. None if
    it does not support any side up to `largest`."""

    def passes(side: int) -> bool:
        try:
            return shape_of(backbone, side, channels) is not None
        except (RuntimeError, ValueError, AssertionError, IndexError):
            return False

    low, high = size, largest
    if low >= high or not passes(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def freeze_backbone(model: Classifier) -> None:
    """Freeze the backbone in place: no gradients, and evaluation mode even in training; only the head is trained."""
    model.backbone.requires_grad_(False)
    model.backbone.eval()
    model.frozen = True


def parameter_count(model: nn.Module) -> int:
    """Number of the model's weights and biases (scalars), trainable or frozen. Shared parameters count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops(model: nn.Module, size: int | tuple[int, int], channels: int = 3) -> float:
    """Floating-point operations of one image's forward pass; a multiply-add counts as two. size: side in pixels, or
    (height, width). channels: of the images.

    Counts convolutions and matrix products with torch.utils.flop_counter, in a `dry_run` on the meta device. On a CPU
    torch would use fused attention kernels, which the counter does not count.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which predictions do not need

    with FlopCounterMode(display=False) as counter:
        dry_run(model, size, channels)
    return float(counter.get_total_flops())


class PartialForward(nn.Module):
    """Module whose forward pass is the function `run` on parts of `model`, to measure parts by `forward_flops`."""

    def __init__(self, model: nn.Module, run: Callable[[Tensor], object]):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, images: Tensor) -> object:
        return self.run(images)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter, by name, for layer-wise learning-rate decay: 0 for the stem, largest for the head or
    decoder.

    A layer is a block (`layer1.0`, `blocks.3`, `stages.2.blocks.1`, `features.4.0`) or else a single module (`conv1`,
    `patch_embed.proj`). Layers are numbered in registration order. Modules without a weight matrix, such as a
    normalization between two blocks, and class tokens get the depth of the layer before them, or 0. Example BEiT-B: 0
    for the embedding, 1 to 12 for the blocks, 13 for the head, as in arXiv 2106.08254. Raises SightlineError if the
    model has no `trunk`, the path of its backbone or encoder, as classifiers and segmenters have.
    """
    if not hasattr(model, "trunk"):
        raise SightlineError(
            "layer-wise learning-rate decay is available for classifiers and segmenters only",
            where="optim.layer_decay",
            cure="use one learning rate for all layers: --optim.layer_decay 1",
        )
    trunk = model.get_submodule(str(model.trunk))
    matrices: dict[str, bool] = {}
    layers: dict[str, str] = {}
    leaves = {name for name, module in trunk.named_modules() if not any(module.children())}
    for name, parameter in trunk.named_parameters():
        layers[name] = layer = layer_of(name, leaves)
        matrices[layer] = matrices.get(layer, False) or (parameter.ndim > 1 and name.endswith("weight"))
    depths: dict[str, int] = {}
    depth = -1
    for layer, has_matrix in matrices.items():
        depth += has_matrix
        depths[layer] = max(depth, 0)
    inside = {f"{model.trunk}.{name}": depths[layer] for name, layer in layers.items()}
    return {name: inside.get(name, depth + 1) for name, _ in model.named_parameters()}


def layer_of(parameter: str, leaves: set[str]) -> str:
    """The module path of the layer that a parameter belongs to; "" for a parameter of the backbone itself.

    The path ends after the first numbered parts that follow each other, if any (`layer1.0`), and includes a following
    `blocks.N` or `layers.N`. leaves: paths of the modules without children; their names do not count as numbered
    (`conv1`).
    """
    parts = parameter.split(".")[:-1]

    def numbered(at: int) -> bool:
        path = ".".join(parts[: at + 1])
        return at < len(parts) and (
            parts[at].isdigit() or (re.search(r"\d$", parts[at]) is not None and path not in leaves)
        )

    end = next((at for at in range(len(parts)) if numbered(at)), None)
    if end is None:
        return ".".join(parts)
    while numbered(end):
        end += 1
    while end + 1 < len(parts) and parts[end] in ("blocks", "layers") and parts[end + 1].isdigit():
        end += 2
    return ".".join(parts[:end])
