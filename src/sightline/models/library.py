"""Backbones out of torchvision and timm. Both libraries are imported when a model is asked for: they take a second."""

import difflib
from typing import Any

from torch import nn

from ..errors import SightlineError

SMALL_IMAGE = 64
"""Up to this many pixels a residual network takes the stem for small images, unless told otherwise."""

BEIT_BASE = "beit_base_patch16_224.in22k_ft_in22k"
"""timm's BEiT-B/16, pre-trained without labels and then with labels on ImageNet-22k (arXiv 2106.08254)."""

TORCHVISION = ("alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_v2_s", "efficientnet_v2_m")
"""Models of ours that are torchvision's models of the same name."""

WITHOUT_AUXILIARY = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""These return several tensors in training; here they are built without their auxiliary classifiers."""

RESERVED = (
    *("weights", "weights_backbone", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir"),
)


def library_model(name: str) -> tuple[str, str] | None:
    """("torchvision" or "timm", the library's name of the model), or None for a model of our own."""
    if name in TORCHVISION:
        return "torchvision", name
    if name == "beit_base":
        return "timm", BEIT_BASE
    library, slash, model = name.partition("/")
    return (library, model) if slash and library in ("torchvision", "timm") else None


def alexnet(size: int, dropout: float = 0.5) -> nn.Module:
    """torchvision's whole AlexNet, its 1000-way classifier included: [N, 3, size, size] -> [N, 1000].

    The head stands behind the 1000 outputs, so that all ImageNet weights stay in use. Images of 63 pixels and more.
    """
    from torchvision import models

    return models.alexnet(weights=None, dropout=dropout)


def efficientnet_v2(name: str, size: int, dropout: float | None = None, stochastic_depth: float = 0.2) -> nn.Module:
    """torchvision's whole EfficientNetV2 (arXiv 2104.00298), its 1000-way classifier included: -> [N, 1000].

    The head stands behind the 1000 outputs, as with `alexnet`. dropout: None is the model's own (0.2 for S, 0.3 for M).
    """
    from torchvision import models

    args = {"stochastic_depth_prob": stochastic_depth} | ({} if dropout is None else {"dropout": dropout})
    return models.get_model(name, weights=None, **args)


def resnet(name: str, size: int, small_images: bool | None = None, zero_init_residual: bool = False) -> nn.Module:
    """torchvision's ResNet (arXiv 1512.03385) without its classifier: -> [N, 512], or [N, 2048] from 50 layers on.

    small_images: a 3x3 convolution of stride 1 without pooling instead of the 7x7 of stride 2 and the pooling, as the
    paper has it for CIFAR; None: where `size` is 64 or less. The 7x7 weights of ImageNet cannot be loaded into it.
    zero_init_residual: start every residual branch at zero (arXiv 1706.02677).
    """
    from torchvision import models

    net = models.get_model(name, weights=None, zero_init_residual=zero_init_residual)
    if small_images if small_images is not None else size <= SMALL_IMAGE:
        stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        net.conv1 = stem
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return net


def beit_base(size: int, drop_path_rate: float = 0.0) -> nn.Module:
    """timm's BEiT-B/16 for images of `size` pixels, a multiple of 16; the features are the class token: -> [N, 768].

    timm itself averages the patches instead and normalizes the average. The final normalization of the class token
    is therefore new when timm's weights are loaded.
    """
    import timm

    if size % 16:
        raise ValueError(f"the image's side must be a multiple of the patch's 16 pixels, found {size}")
    return timm.create_model(
        BEIT_BASE, pretrained=False, num_classes=0, global_pool="token", img_size=size, drop_path_rate=drop_path_rate
    )


def torchvision_model(name: str, args: dict[str, Any]) -> nn.Module:
    """Any classifier of torchvision with its last linear layer, in order of registration, replaced by the identity."""
    from torchvision import models

    check_reserved(args)
    require_name(name, models.list_models(module=models), "torchvision/")
    net = models.get_model(name, weights=None, **WITHOUT_AUXILIARY.get(name, {}) | args)
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise SightlineError(
            f"torchvision/{name} has no linear layer that a head could replace",
            where="model.name",
            cure=f"try timm/{name}, or another model",
        )
    net.set_submodule(linear[-1], nn.Identity())
    return net


def timm_model(name: str, size: int, args: dict[str, Any]) -> nn.Module:
    """Any classifier of timm without its head, built for images of `size` pixels where it takes a fixed size."""
    import timm

    check_reserved(args)
    known = timm.is_model(name)  # of a name with a tag it looks at the part before the dot
    require_name(name, [name] if known else timm.list_models(), "timm/")
    fixed = timm.get_pretrained_cfg(name)
    settings: dict[str, Any] = {"img_size": size} if fixed is not None and fixed.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=0, **settings | args)


def check_reserved(args: dict[str, Any]) -> None:
    """Raise SightlineError for arguments with which a library would read or download files, or add its own head."""
    wrong = [key for key in args if key in RESERVED]
    if wrong:
        raise SightlineError(
            f"model.args must not have {', '.join(map(repr, wrong))}",
            where="model.args",
            why="a model is built without weights and without classes",
            cure="choose weights with model.weights; the classes come from the data",
        )


def require_name(name: str, names: list[str], prefix: str) -> None:
    """Raise SightlineError with the nearest names unless `name` is one of `names`."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 3, 0.5)
    library = prefix.rstrip("/")
    raise SightlineError(
        f"{library} has no classifier named {name!r}",
        where="model.name",
        cure="did you mean " + " or ".join(prefix + item for item in near) + "?"
        if near
        else f"see {library}'s list of models",
    )
