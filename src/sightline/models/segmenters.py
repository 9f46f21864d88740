"""Segmenters by name: our own, torchvision's DeepLabV3 and all of segmentation_models_pytorch, all used in one way."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..errors import SightlineError
from . import checked_build
from .fcn import fcn32s, from_vgg16
from .library import check_reserved
from .unet import UNet, unet

Run = Callable[[nn.Module, Tensor, bool], dict[str, Tensor]]
"""(network, images, whether the auxiliary head is wanted) -> `logits` and perhaps `auxiliary`, of any height, width."""

Convert = Callable[[nn.Module, str, Tensor], tuple[str, Tensor]]
"""(network, name, tensor) of weights made for another program -> name and tensor as this network has them."""


class Segmenter(nn.Module):
    """Images float [N, 3, H, W] -> logits [N, classes, H, W] for any H and W: a network with an encoder inside.

    stride, smallest: sides in pixels that the network takes: multiples of `stride` from `smallest` on. Other images are
    continued to the right and at the bottom by repeating their last column and row, as little as possible, and the
    logits cut back. Logits of a coarser map are interpolated bilinearly. encoder_path: where the encoder is in the
    network. scores: paths of the layers whose outputs are classes. run, convert: see Run and Convert. pretrained: whose
    ImageNet weights the encoder takes (`torchvision/X`, `timm/X`, `smp/X`, empty for none). In training mode, batch
    norm uses its running statistics wherever it meets a single value a channel, as with a last batch of one image.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        encoder_path: str,
        scores: tuple[str, ...],
        stride: int = 1,
        smallest: int = 1,
        run: Run | None = None,
        convert: Convert | None = None,
        pretrained: str = "",
    ):
        super().__init__()
        self.network = network
        self.name, self.encoder_path, self.scores, self.pretrained = name, encoder_path, scores, pretrained
        self.stride, self.smallest = stride, smallest
        self.run, self.convert = run or run_plain, convert
        self.frozen = False
        tolerate_single_values(network)

    @property
    def encoder(self) -> nn.Module:
        """The part that pre-trained backbones load into."""
        return self.network.get_submodule(self.encoder_path)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Every parameter outside of the encoder."""
        inside = f"{self.encoder_path}."
        return [value for name, value in self.network.named_parameters() if not name.startswith(inside)]

    def forward(self, images: Tensor) -> Tensor:
        return self.resized(images, auxiliary=False)["logits"]

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """`logits` and, of networks with an auxiliary head, `auxiliary`: each [N, classes, H, W]."""
        return self.resized(images, auxiliary=True)

    def resized(self, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
        """The network's outputs at the resolution of the images."""
        height, width = images.shape[-2:]
        larger = padded(images, self.stride, self.smallest)
        maps = self.run(self.network, larger, auxiliary)
        return {key: upsampled(value, larger)[..., :height, :width] for key, value in maps.items()}

    def train(self, mode: bool = True) -> "Segmenter":
        """Training mode; a frozen encoder stays in evaluation mode, so that its batch-norm statistics stay too."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def padded(images: Tensor, stride: int, smallest: int) -> Tensor:
    """[N, C, H, W] -> the same with both sides raised to multiples of `stride`, at least `smallest`."""
    down, right = (max(-(-side // stride) * stride, smallest) - side for side in images.shape[-2:])
    return functional.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def upsampled(maps: Tensor, images: Tensor) -> Tensor:
    """Maps [N, C, h, w] at the height and width of the images."""
    size = images.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def freeze_encoder(model: Segmenter) -> None:
    """Train the decoder only, in place: the encoder gets no gradients, and stays in evaluation mode from now on."""
    model.encoder.requires_grad_(False)
    model.encoder.eval()
    model.frozen = True


def tolerate_single_values(network: nn.Module) -> None:
    """Let every batch norm use its running statistics for inputs with one value a channel, where torch would raise.

    Done by hooks: classes, names and, for all other inputs, results stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.register_forward_pre_hook(use_running_statistics)
            module.register_forward_hook(restore_training_mode, always_call=True)


def use_running_statistics(norm: Any, args: tuple[Tensor, ...]) -> None:
    """Evaluation mode for this one call if the input is a single value a channel."""
    if norm.training and args[0].numel() == args[0].shape[1]:
        norm.training, norm.interrupted = False, True


def restore_training_mode(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
    """Undo `use_running_statistics`."""
    if getattr(norm, "interrupted", False):
        norm.training, norm.interrupted = True, False


def run_plain(network: nn.Module, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    return {"logits": network(images)}


def run_unet(network: nn.Module, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    assert isinstance(network, UNet)
    return network.maps(images, auxiliary)


def run_deeplab(network: Any, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    """torchvision's own forward pass less its interpolation, and without the auxiliary head where it is not wanted."""
    maps = network.backbone(images)
    outputs = {"logits": network.classifier(maps["out"])}
    if auxiliary and network.aux_classifier is not None:
        outputs["auxiliary"] = network.aux_classifier(maps["aux"])
    return outputs


def build_fcn32s(classes: int, **args: Any) -> Segmenter:
    network = fcn32s(classes, **args)
    return Segmenter(
        network,
        name="fcn32s",
        encoder_path="features",
        scores=("score", "upsample"),
        stride=network.stride,
        smallest=network.smallest,
        convert=from_vgg16,
        pretrained="torchvision/vgg16_bn" if args.get("batch_norm") else "torchvision/vgg16",
    )


def build_unet(classes: int, **args: Any) -> Segmenter:
    scores = ("head", "auxiliary")
    network = unet(classes, **args)
    return Segmenter(
        network, name="unet", encoder_path="encoder", scores=scores, stride=network.stride, smallest=32, run=run_unet
    )


def deeplab(backbone: str, classes: int, auxiliary: bool = True) -> Segmenter:
    """torchvision's DeepLabV3 (arXiv 1706.05587) of output stride 8, on `resnet50` or `resnet101`.

    auxiliary: with a second head (FCN) on the third stage. It takes images of any size as they are.
    """
    from torchvision.models import segmentation

    build = {"resnet50": segmentation.deeplabv3_resnet50, "resnet101": segmentation.deeplabv3_resnet101}[backbone]
    # Without weights_backbone=None torchvision downloads the backbone even if no weights are asked for.
    network = build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=auxiliary)
    return Segmenter(
        network,
        name=f"deeplabv3_{backbone}",
        encoder_path="backbone",
        scores=("classifier.4", "aux_classifier.4"),
        run=run_deeplab,
        pretrained=f"torchvision/{backbone}",
    )


SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "unet": build_unet,
    "fcn32s": build_fcn32s,
    "deeplabv3_resnet50": partial(deeplab, "resnet50"),
    "deeplabv3_resnet101": partial(deeplab, "resnet101"),
}
"""Functions of the number of classes and of the model's arguments; `smp/ARCH/ENCODER` comes beside them."""

TAKES: dict[str, Callable[..., Any]] = {"unet": unet, "fcn32s": fcn32s}
"""Whose arguments a segmenter takes, where not those of its own function."""


def build_segmenter(name: str, classes: int, args: dict[str, Any] | None = None) -> Segmenter:
    """The segmenter `name` with random weights out of torch's global generator; nothing is downloaded.

    name: one of SEGMENTERS, or `smp/ARCH/ENCODER`: any architecture (in any case) and encoder of
    segmentation_models_pytorch. args: keyword arguments of its builder. Raises SightlineError for an unknown name, for
    arguments that the model does not take, and where an architecture and an encoder do not fit together.
    """
    args = args or {}
    if name.partition("/")[0] == "smp":
        return smp_segmenter(name, classes, args)
    if name not in SEGMENTERS:
        raise unknown_segmenter(name, list(SEGMENTERS))
    refuse_unknown(name, args, accepted(TAKES.get(name, SEGMENTERS[name])))
    segmenter = checked_build(name, lambda: SEGMENTERS[name](classes=classes, **args))
    assert isinstance(segmenter, Segmenter)
    return segmenter


def accepted(function: Callable[..., Any], hidden: tuple[str, ...] = ("classes",)) -> list[str]:
    """Names of the arguments that a user may give to a builder."""
    parameters = inspect.signature(function).parameters.values()
    return [item.name for item in parameters if item.name not in hidden and item.kind is not item.VAR_KEYWORD]


def refuse_unknown(name: str, args: dict[str, Any], takes: list[str]) -> None:
    """Raise SightlineError that names every argument which the segmenter does not take, and those that it does."""
    wrong = [key for key in args if key not in takes]
    if wrong:
        what = f"{name} does not take {', '.join(map(repr, wrong))}"
        raise SightlineError(what, where="model.args", cure=f"it takes {', '.join(takes)}")


def unknown_segmenter(name: str, near: list[str], why: str = "") -> SightlineError:
    """The error for a name that there is not; `near`: names to look for the nearest in."""
    close = difflib.get_close_matches(name, near, 3, 0.5)
    return SightlineError(
        f"there is no segmenter {name!r}",
        where="model.name",
        why=why or f"the segmenters are {', '.join(SEGMENTERS)} and smp/ARCH/ENCODER",
        cure=f"did you mean {' or '.join(close)}?" if close else "choose one of them, for example smp/unet/resnet34",
    )


SMP_OWN = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
"""Arguments of smp's models that follow from the name and the data, or that would change what comes out."""

ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False})
"""How timm's transformers of a fixed image size are told to take others: vision transformers, Swin."""


def smp_segmenter(name: str, classes: int, args: dict[str, Any]) -> Segmenter:
    """smp's model for `smp/ARCH/ENCODER`; `tu-` encoders also take the arguments of timm's model."""
    import segmentation_models_pytorch as smp
    import timm

    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    arch, _, encoder = name.removeprefix("smp").removeprefix("/").partition("/")
    if arch.lower() not in architectures:
        near = [f"smp/{known}/{encoder}" for known in architectures]
        raise unknown_segmenter(name, near, f"smp's architectures are {', '.join(architectures)}: smp/ARCH/ENCODER")
    if smp.encoders.is_equivalent_to_timm_universal(encoder):  # old names, which smp itself replaces with a warning
        encoder = encoder.replace("timm-mobilenetv3", "timm-tf_mobilenetv3").replace("timm-", "tu-")
    universal = encoder.startswith("tu-")
    if not (timm.is_model(encoder[3:]) if universal else encoder in smp.encoders.encoders):
        others = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
        near = [f"smp/{arch}/{other}" for other in others]
        raise unknown_segmenter(name, near, f"smp has no encoder {encoder!r}")
    takes = accepted(architectures[arch.lower()], SMP_OWN)
    if universal:
        check_reserved(args)
    refuse_unknown(name, args, [*takes, *(key for key in args if universal and key not in SMP_OWN)])

    def build() -> nn.Module:
        fixed = universal and getattr(timm.get_pretrained_cfg(encoder[3:]), "fixed_input_size", False)
        for more in ANY_SIZE if fixed else ():
            try:
                return smp.create_model(arch, encoder, None, classes=classes, **more | args)
            except TypeError:  # it does not take this argument
                continue
        return smp.create_model(arch, encoder, None, classes=classes, **args)

    network: Any = checked_build(name, build)
    # DPT halves the deepest map once more; the attention of PAN does so three times, and rounds.
    stride = network.encoder.output_stride * (2 if arch.lower() == "dpt" else 1)
    return Segmenter(
        network,
        name=name,
        encoder_path="encoder",
        scores=("segmentation_head",),
        stride=stride,
        smallest=8 * stride if arch.lower() == "pan" else stride,
        convert=timm_feature_name if universal else None,
        pretrained=f"timm/{encoder[3:]}" if universal else f"smp/{encoder}",
    )


def timm_feature_name(network: nn.Module, name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """timm's feature extractors write `stages_0.x` for what its classifiers call `stages.0.x`."""
    return "encoder.model." + name.replace(".", "_", 1), tensor
