"""Backbones of torchvision and timm, and checks of model names and arguments.

torchvision and timm are imported inside functions, because each takes about a second to import.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SightlineError

SMALL_IMAGE = 64
"""Largest image side at which a ResNet by default has the stem for small images (stride 1, no pooling)."""

BEIT_BASE = "beit_base_patch16_224.in22k_ft_in22k"
"""timm's BEiT-B/16: self-supervised pre-training, then fine-tuning with labels, on ImageNet-22k (arXiv 2106.08254)."""

TORCHVISION = ("alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_v2_s", "efficientnet_v2_m")
"""Those names in MODELS that are torchvision models of the same name."""

WITHOUT_AUXILIARY = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""Arguments that omit auxiliary classifiers, which would return several tensors in training mode."""

RESERVED = (
    *("weights", "weights_backbone", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir", "in_chans", "in_channels"),
)
"""Arguments of the libraries that `model.args` must not have, because they load files or follow from the data."""


def library_model(name: str) -> tuple[str, str] | None:
    """A model's library: ("torchvision" or "timm", its name there), or None for a model of Sightline."""
    if name in TORCHVISION:
        return "torchvision", name
    if name == "beit_base":
        return "timm", BEIT_BASE
    library, slash, model = name.partition("/")
    return (library, model) if slash and library in ("torchvision", "timm") else None


def alexnet(size: int, dropout: float = 0.5, channels: int = 3) -> nn.Module:
    """torchvision's AlexNet with its 1000-way classifier as a backbone: [N, C, size, size] -> [N, 1000]; `size` at
    least 63. A classifier's head is added after the 1000 outputs, so that all ImageNet weights are used."""
    from torchvision import models

    return with_channels(models.alexnet(weights=None, dropout=dropout), channels)


def efficientnet_v2(
    name: str, size: int, dropout: float | None = None, stochastic_depth: float = 0.2, channels: int = 3
) -> nn.Module:
    """torchvision's EfficientNetV2 (arXiv 2104.00298) with its 1000-way classifier as a backbone: -> [N, 1000].

    A classifier's head is added after the 1000 outputs, so that all ImageNet weights are used. dropout: None for
    torchvision's default (0.2 for S, 0.3 for M).
    """
    from torchvision import models

    args = {"stochastic_depth_prob": stochastic_depth} | ({} if dropout is None else {"dropout": dropout})
    return with_channels(models.get_model(name, weights=None, **args), channels)


def resnet(
    name: str, size: int, small_images: bool | None = None, zero_init_residual: bool = False, channels: int = 3
) -> nn.Module:
    """torchvision's ResNet (arXiv 1512.03385) without its classifier: -> [N, 512], or [N, 2048] for 50 layers or more.

    small_images: replace the stem (7x7 convolution of stride 2, max pooling) with a 3x3 convolution of stride 1, as in
    the paper for CIFAR. ImageNet weights of the 7x7 convolution are then not loaded. None: only if `size` is at most
    64. zero_init_residual: initialize the last batch norm of each residual branch with zero (arXiv 1706.02677).
    """
    from torchvision import models

    net = models.get_model(name, weights=None, zero_init_residual=zero_init_residual)
    if small_images if small_images is not None else size <= SMALL_IMAGE:
        stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        net.conv1 = stem
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return with_channels(net, channels)


def beit_base(size: int, drop_path_rate: float = 0.0, channels: int = 3) -> nn.Module:
    """timm's BEiT-B/16 with the class token as features: [N, C, size, size] -> [N, 768]; `size` a multiple of 16.

    By default timm averages the patch tokens and normalizes the average. Therefore its weights have no final
    normalization for the class token, and this layer keeps its initialization.
    """
    import timm

    if size % 16:
        raise ValueError(f"the image size must be a multiple of the patch size, 16 pixels, found {size}")
    return timm.create_model(
        BEIT_BASE, pretrained=False, num_classes=0, global_pool="token", img_size=size, drop_path_rate=drop_path_rate,
        in_chans=channels,
    )  # fmt: skip


def torchvision_model(name: str, args: dict[str, Any], channels: int = 3) -> nn.Module:
    """The torchvision classifier `name` with its last registered linear layer replaced by the identity."""
    from torchvision import models

    check_reserved(args)
    require_torchvision_name(name)
    net = models.get_model(name, weights=None, **WITHOUT_AUXILIARY.get(name, {}) | args)
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise SightlineError(
            f"torchvision/{name} has no linear layer, which the classification head would replace",
            where="model.name",
            cure=f"use another model, perhaps the one of timm: --model.name timm/{name}",
        )
    net.set_submodule(linear[-1], nn.Identity())
    return with_channels(net, channels)


def require_torchvision_name(name: str) -> None:
    """Raise SightlineError with the nearest names if torchvision has no classifier of this name."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        why = "it is not in torchvision.models.list_models(module=torchvision.models)"
        raise unknown_model(f"torchvision/{name}", known, why=why, prefix="torchvision/")


def require_timm_name(name: str) -> None:
    """Raise SightlineError with the nearest names if timm has no model `NAME`, or no weights `NAME.TAG`."""
    import timm

    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise unknown_model(f"timm/{model}", timm.list_models(), why="it is not in timm.list_models()", prefix="timm/")
    tags = timm.list_models(f"{model}.*", include_tags=True)
    if tag and name not in tags:
        why = f"timm has no weights {tag!r} of this model; it has {', '.join(tags) or 'none'}"
        raise unknown_model(f"timm/{name}", tags or [model], why=why, prefix="timm/")


def timm_model(name: str, size: int, args: dict[str, Any], channels: int = 3) -> nn.Module:
    """The timm classifier `name` without its head, for images [N, C, H, W]; if its input size is fixed, of `size`
    pixels."""
    import timm

    check_reserved(args)
    require_timm_name(name)
    fixed = timm.get_pretrained_cfg(name)
    settings: dict[str, Any] = {"img_size": size} if fixed is not None and fixed.fixed_input_size else {}
    settings |= {} if channels == 3 else {"in_chans": channels}
    return timm.create_model(name, pretrained=False, num_classes=0, **settings | args)


def patch_side(network: nn.Module) -> int:
    """Height and width in pixels of the patches into which a network of timm divides an image; 1 for other networks."""
    size = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return int(size[0]) if isinstance(size, Sequence) else int(size)


def require_whole_patches(name: str, network: nn.Module, size: int, setting: str = "data.size") -> None:
    """Raise SightlineError if a network that divides images into patches would ignore the last rows and columns of
    images of `size` pixels. setting: the name of the setting of the size."""
    side = patch_side(network)
    if size % side:
        below, above = size // side * side, -(-size // side) * side
        raise SightlineError(
            f"{name} would not see the last {size - below} rows and columns of images of {size} pixels",
            where=setting,
            why=f"it divides images into patches of {side} x {side} pixels",
            cure="choose a multiple: " + " or ".join(f"--{setting} {each}" for each in (below, above) if each),
        )


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution of an RGB network by one for images with `channels` channels.

    Its random weights have the standard deviation of the former ones, times sqrt(3 / channels).
    """
    if channels == 3:
        return network
    layers = ((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    path, rgb = next((path, layer) for path, layer in layers if layer.in_channels == 3)
    shape: Any = (rgb.out_channels, rgb.kernel_size, rgb.stride, rgb.padding, rgb.dilation)
    wider = nn.Conv2d(channels, *shape, bias=rgb.bias is not None)
    with torch.no_grad():
        wider.weight.copy_(torch.randn_like(wider.weight) * rgb.weight.std() * (3 / channels) ** 0.5)
    network.set_submodule(path, wider)
    return network


def unknown_model(
    name: str, known: Sequence[str], kind: str = "model", why: str = "", prefix: str = ""
) -> SightlineError:
    """The SightlineError for an unknown `model.name`, with the closest of the `known` names. why: by default the
    list of the known names. prefix: a part of `name`, such as `timm/`, that the known names do not have."""
    near = [prefix + other for other in difflib.get_close_matches(name.removeprefix(prefix), known, 3, 0.5)]
    return SightlineError(
        f"unknown {kind} {name!r}",
        where="model.name",
        why=why or f"the {kind}s are {', '.join(known)}",
        cure=f"did you mean {' or '.join(near)}?"
        if near
        else f"choose one of these {kind}s: --model.name NAME; for a model of your own, add --code FILE",
    )


def accepted_args(function: Callable[..., Any], hidden: tuple[str, ...]) -> list[str]:
    """The names of a builder's parameters that `model.args` may set: all except those in `hidden` and **kwargs."""
    parameters = inspect.signature(function).parameters.values()
    return [item.name for item in parameters if item.name not in hidden and item.kind is not item.VAR_KEYWORD]


def check_args(name: str, args: dict[str, Any], accepted: list[str]) -> None:
    """Raise SightlineError if `args` has names that are not in `accepted`, the arguments of the model's builder."""
    wrong = [key for key in args if key not in accepted]
    if wrong:
        raise SightlineError(
            f"{name} has no argument {', '.join(map(repr, wrong))}",
            where="model.args",
            cure=f"remove the argument from --model.args; the arguments of {name} are: {', '.join(accepted) or 'none'}",
        )


def check_reserved(args: dict[str, Any]) -> None:
    """Raise SightlineError if `model.args` has arguments that load or download files or follow from the data."""
    wrong = [key for key in args if key in RESERVED]
    if wrong:
        raise SightlineError(
            f"--model.args must not contain {', '.join(map(repr, wrong))}",
            where="model.args",
            why="other settings define the weights, and the data the classes and channels",
            cure="remove the argument from --model.args; choose weights with --model.weights",
        )
