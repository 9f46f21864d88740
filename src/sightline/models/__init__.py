"""Classifiers by name: our own, torchvision's and timm's, all of one shape: a backbone and a head."""

import difflib
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ..errors import SightlineError
from .fast import FastNet, fastnet
from .heads import HEADS
from .library import alexnet, beit_base, efficientnet_v2, resnet, timm_model, torchvision_model
from .residual import resnet9
from .small import small_cnn
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
}
"""Functions of the image's size and of the model's arguments that return a backbone: [N, 3, size, size] -> [N, D]."""


class Classifier(nn.Module):
    """Images float [N, 3, H, W] -> logits [N, classes]: a head on the features [N, D] of a backbone."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.frozen = False

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, D], what the head sees."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def train(self, mode: bool = True) -> "Classifier":
        """Training mode; a frozen backbone stays in evaluation mode, so that its batch-norm statistics stay too."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


def build_model(
    name: str, classes: int, size: int = 224, args: dict[str, Any] | None = None, head: str = "linear"
) -> Classifier:
    """The classifier `name`: the backbone of `build_backbone` and a head (of HEADS) for so many classes."""
    backbone, width = build_backbone(name, size, args)
    return Classifier(backbone, HEADS[head](width, classes))


def build_backbone(name: str, size: int = 224, args: dict[str, Any] | None = None) -> tuple[nn.Module, int]:
    """(the network, the width of its features) for square images of `size` pixels, with random weights out of torch's
    global generator.

    name: one of MODELS, `timm/NAME` or `torchvision/NAME`. args: keyword arguments of the builder. Nothing is
    downloaded. Raises SightlineError for an unknown name, arguments that the model does not take, and a size that it
    cannot work with.
    """
    args = args or {}
    library, slash, inner = name.partition("/")
    if slash and library in ("timm", "torchvision"):
        backbone = checked_build(
            name, lambda: timm_model(inner, size, args) if library == "timm" else torchvision_model(inner, args)
        )
    else:
        if name not in MODELS:
            raise unknown_model(name)
        check_args(name, args)
        backbone = checked_build(name, lambda: MODELS[name](size=size, **args))
    return backbone, feature_width(backbone, name, size)


def checked_build(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns, with the model's complaints about its arguments as SightlineError."""
    try:
        return build()
    except (TypeError, ValueError, AssertionError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        # The libraries check their arguments in as many ways; the arguments are all that can be wrong here.
        raise SightlineError(
            f"{name} cannot be built with these settings",
            where="model.args, data.size",
            why=str(error).strip() or type(error).__name__,
            cure="change or remove the argument it names, or choose another size",
        ) from error


def unknown_model(name: str) -> SightlineError:
    """The error for a name that is not in MODELS, with the nearest and all choices."""
    near = difflib.get_close_matches(name, MODELS, 3, 0.5)
    return SightlineError(
        f"there is no model {name!r}",
        where="model.name",
        why=f"the models are {', '.join(MODELS)}, timm/NAME and torchvision/NAME",
        cure=f"did you mean {' or '.join(near)}?" if near else "choose one of them",
    )


def check_args(name: str, args: dict[str, Any]) -> None:
    """Raise SightlineError that names every argument which the model does not take, and those that it does."""
    takes = [key for key in inspect.signature(MODELS[name]).parameters if key != "size"]
    wrong = [key for key in args if key not in takes]
    if wrong:
        raise SightlineError(
            f"{name} does not take {', '.join(map(repr, wrong))}",
            where="model.args",
            cure=f"it takes {', '.join(takes)}",
        )


def feature_width(backbone: nn.Module, name: str, size: int) -> int:
    """D of the backbone's output [N, D]; SightlineError where an image of this size cannot pass."""
    try:
        shape = shape_of(backbone, size)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        smallest = smallest_size(backbone, size)
        raise SightlineError(
            f"{name} cannot work with images of {size} x {size} pixels",
            where="data.size",
            why=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            cure=f"set data.size to {smallest} or more" if smallest else "choose another data.size or another model",
        ) from error
    if shape is None or len(shape) != 2:
        found = "several tensors" if shape is None else f"the shape {tuple(shape)}"
        raise SightlineError(
            f"{name} does not give one feature vector an image",
            where="model.name, model.args",
            why=f"its output has {found} for one image",
            cure="remove arguments that change its output (such as global_pool), or choose another model",
        )
    return shape[1]


def shape_of(model: nn.Module, size: int) -> torch.Size | None:
    """Shape of the output for one image of `size` pixels; None where the output is not one tensor."""
    output = dry_run(model, size)
    return output.shape if isinstance(output, Tensor) else None


def dry_run(model: nn.Module, size: int | tuple[int, int]) -> Any:
    """The output, without values, for one image in evaluation mode; neither computes nor changes anything."""
    tensors = {name: value.detach().to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    modes = {module: module.training for module in model.modules()}
    nn.Module.eval(model)
    try:
        with torch.no_grad():
            sides = (size, size) if isinstance(size, int) else size
            return functional_call(model, tensors, (torch.empty(1, 3, *sides, device="meta"),))
    finally:
        for module, mode in modes.items():
            module.training = mode


def smallest_size(backbone: nn.Module, size: int, largest: int = 512) -> int | None:
    """The smallest side in pixels above `size` that passes, by bisection; None where not even `largest` does."""

    def passes(side: int) -> bool:
        try:
            return shape_of(backbone, side) is not None
        except (RuntimeError, ValueError, AssertionError, IndexError):
            return False

    low, high = size, largest
    if low >= high or not passes(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def initialize_from_data(backbone: nn.Module, images: Tensor) -> None:
    """Let `fastnet` see normalized training images float [N, 3, H, W] before the first step."""
    if isinstance(backbone, FastNet):
        backbone.whiten(images)


def freeze_backbone(model: Classifier) -> None:
    """Train the head only, in place: the backbone gets no gradients, and stays in evaluation mode from now on."""
    model.backbone.requires_grad_(False)
    model.backbone.eval()
    model.frozen = True


def parameter_count(model: nn.Module) -> int:
    """How many numbers the parameters hold, trained or not; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops(model: nn.Module, size: int | tuple[int, int]) -> float:
    """Floating-point operations of one image's forward pass, a multiply-add counted as two; size: side, or (h, w).

    Convolutions and matrix products only, as torch.utils.flop_counter counts them. The pass is a dry run: a real one
    on the processor takes fused attention kernels that the counter does not know.
    """
    with FlopCounterMode(display=False) as counter:
        dry_run(model, size)
    return float(counter.get_total_flops())


class PartialForward(nn.Module):
    """A pass through some of a model, as a module of its own whose operations can be counted."""

    def __init__(self, model: nn.Module, run: Callable[[Tensor], object]):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, images: Tensor) -> object:
        return self.run(images)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter for learning rates that fall from layer to layer: 0 is the stem, the head is deepest.

    A layer is a block (`layer1.0`, `blocks.3`, `stages.2.blocks.1`, `features.4.0`) or else a single module (`conv1`,
    `patch_embed.proj`), in the order in which the model registers them. What has no weight matrix, such as
    a normalization between two blocks or a class token, belongs to the layer before it, and before the first layer
    to the stem. BEiT-B gets 0 for the embedding, 1 to 12 for the blocks, 13 for the head, as in arXiv 2106.08254.
    """
    if not isinstance(model, Classifier):
        cure = "leave out optim.layer_decay"
        raise SightlineError("rates that fall from layer to layer are for classifiers", cure=cure)
    matrices: dict[str, bool] = {}
    layers: dict[str, str] = {}
    leaves = {name for name, module in model.backbone.named_modules() if not any(module.children())}
    for name, parameter in model.backbone.named_parameters():
        layers[name] = layer = layer_of(name, leaves)
        matrices[layer] = matrices.get(layer, False) or (parameter.ndim > 1 and name.endswith("weight"))
    depths: dict[str, int] = {}
    depth = -1
    for layer, has_matrix in matrices.items():
        depth += has_matrix
        depths[layer] = max(depth, 0)
    by_name = {f"backbone.{name}": depths[layer] for name, layer in layers.items()}
    return by_name | {f"head.{name}": depth + 1 for name, _ in model.head.named_parameters()}


def layer_of(parameter: str, leaves: set[str]) -> str:
    """The path of the layer that a parameter belongs to; "" for a parameter of the backbone itself.

    It ends with the first run of numbered parts, if any (`layer1.0`), and goes on through `blocks.N` and `layers.N`.
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
