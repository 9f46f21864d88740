"""Segmentation models by name, with one interface: two trivial ones, U-Net, FCN-32s, torchvision's DeepLabV3, a light
decoder on any network of timm, and all models of segmentation_models_pytorch (smp)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..errors import SightlineError
from . import channel_args, checked_build, dry_run
from .library import accepted_args, check_args, check_reserved, unknown_model, with_channels
from .segmentation.colors import colors, constant
from .segmentation.fcn import fcn32s, from_vgg16
from .segmentation.light import LightNetwork, light_network, of_any_size
from .segmentation.unet import UNet, unet

ForwardFunction = Callable[[nn.Module, Tensor, bool], dict[str, Tensor]]
"""Function (network, images, whether to run the auxiliary head) -> {"logits": ..., possibly "auxiliary": ...}, at
any resolution."""

ConvertFunction = Callable[[nn.Module, str, Tensor], tuple[str, Tensor]]
"""(network, name, tensor) of a weight file -> the name and tensor that the network has for it."""


class Segmenter(nn.Module):
    """A segmentation network with an encoder: images float [N, C, H, W] -> logits [N, classes, H, W], for any H and W.

    stride, smallest: the network requires image sides that are multiples of `stride` and have at least `smallest`
    pixels. Other images are padded at the right and bottom by repeating the last column and row, and the logits are
    cropped. Logits at a lower resolution are interpolated bilinearly.

    encoder_path: module path of the encoder in the network. class_layers: paths of the output layers, which depend on
    the classes. run: the forward pass; by default `network(images)`. convert: converts tensors of weight files.
    pretrained: the model whose ImageNet weights fit the encoder (`torchvision/X`, `timm/X`, `smp/X`; empty for none).

    In training mode, batch norm uses its running statistics for inputs with a single value per channel, such as the
    deepest map of a small image in a batch of one.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        encoder_path: str,
        class_layers: tuple[str, ...],
        stride: int = 1,
        smallest: int = 1,
        run: ForwardFunction | None = None,
        convert: ConvertFunction | None = None,
        pretrained: str = "",
    ):
        super().__init__()
        self.network = network
        self.name, self.pretrained = name, pretrained
        self.encoder_path, self.class_layers = encoder_path, class_layers
        self.stride, self.smallest = stride, smallest
        self.run, self.convert = run or run_plain, convert
        self.frozen, self.channels = False, 3
        self.trunk = f"network.{encoder_path}"
        add_batch_norm_hooks(network)

    @property
    def encoder(self) -> nn.Module:
        """The encoder: the part of the network into which weights of classification backbones are loaded."""
        return self.network.get_submodule(self.encoder_path)

    def forward(self, images: Tensor) -> Tensor:
        return self.full_resolution(images, auxiliary=False)["logits"]

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """`logits` and, for networks with an auxiliary head, `auxiliary`: each [N, classes, H, W]."""
        return self.full_resolution(images, auxiliary=True)

    def full_resolution(self, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
        """The network's outputs, at the resolution of the images; auxiliary: run the auxiliary head as well."""
        height, width = images.shape[-2:]
        larger = padded(images, self.stride, self.smallest)
        maps = self.run(self.network, larger, auxiliary)
        return {key: upsampled(value, larger)[..., :height, :width] for key, value in maps.items()}

    def train(self, mode: bool = True) -> "Segmenter":
        """Set training mode; a frozen encoder stays in evaluation mode, so its batch-norm statistics do not change."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def padded(images: Tensor, stride: int, smallest: int) -> Tensor:
    """Pad [N, C, H, W] at the bottom and right, by replication, to multiples of `stride` of at least `smallest`."""
    down, right = (max(-(-side // stride) * stride, smallest) - side for side in images.shape[-2:])
    return functional.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def upsampled(maps: Tensor, images: Tensor) -> Tensor:
    """Maps [N, C, h, w] interpolated bilinearly to the height and width of the images."""
    size = images.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def freeze_encoder(model: Segmenter) -> None:
    """Freeze the encoder in place: no gradients, and evaluation mode even in training; only the decoder is trained."""
    model.encoder.requires_grad_(False)
    model.encoder.eval()
    model.frozen = True


def add_batch_norm_hooks(network: nn.Module) -> None:
    """Make batch norms use their running statistics for inputs with a single value per channel, for which torch
    raises ValueError. This is done by hooks, so that module classes and state_dict names do not change."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.register_forward_pre_hook(use_running_statistics)
            module.register_forward_hook(restore_training_mode, always_call=True)


def use_running_statistics(norm: Any, args: tuple[Tensor, ...]) -> None:
    """Forward pre-hook of a batch norm: use evaluation mode if the input has a single value per channel."""
    if norm.training and args[0].numel() == args[0].shape[1]:
        norm.training, norm.interrupted = False, True


def restore_training_mode(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
    """Forward hook of a batch norm: undo `use_running_statistics`."""
    if getattr(norm, "interrupted", False):
        norm.training, norm.interrupted = True, False


def run_plain(network: nn.Module, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    return {"logits": network(images)}


def run_unet(network: nn.Module, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    assert isinstance(network, UNet)
    return network.maps(images, auxiliary)


def run_deeplab(network: Any, images: Tensor, auxiliary: bool) -> dict[str, Tensor]:
    """The forward pass of torchvision's DeepLabV3 without interpolation. auxiliary: run the auxiliary head too."""
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
        class_layers=("score", "upsample"),
        stride=network.stride,
        smallest=network.smallest,
        convert=from_vgg16,
        pretrained=pretrained_encoder("fcn32s", args),
    )


def build_unet(classes: int, **args: Any) -> Segmenter:
    network = unet(classes, **args)
    return Segmenter(
        network,
        name="unet",
        encoder_path="encoder",
        class_layers=("head", "auxiliary"),
        stride=network.stride,
        smallest=32,
        run=run_unet,
    )


def deeplab(backbone: str, classes: int, auxiliary: bool = True, channels: int = 3) -> Segmenter:
    """torchvision's DeepLabV3 (arXiv 1706.05587) with output stride 8; backbone: `resnet50` or `resnet101`.
    auxiliary: add a second head (FCN) after the third stage. Images of any size need no padding."""
    from torchvision.models import segmentation

    build = {"resnet50": segmentation.deeplabv3_resnet50, "resnet101": segmentation.deeplabv3_resnet101}[backbone]
    # weights_backbone=None: by default torchvision downloads weights of the backbone even with weights=None.
    network = with_channels(
        build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=auxiliary), channels
    )
    return Segmenter(
        network,
        name=f"deeplabv3_{backbone}",
        encoder_path="backbone",
        class_layers=("classifier.4", "aux_classifier.4"),
        run=run_deeplab,
        pretrained=pretrained_encoder(f"deeplabv3_{backbone}"),
    )


def trivial(name: str, classes: int, channels: int = 3) -> Segmenter:
    """The segmenter `constant` or `colors`, whose encoder has no weights, see `segmentation/colors.py`."""
    network = {"constant": constant, "colors": colors}[name](classes, channels)
    return Segmenter(network, name=name, encoder_path="features", class_layers=("classes",))


SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "constant": partial(trivial, "constant"),
    "colors": partial(trivial, "colors"),
    "unet": build_unet,
    "fcn32s": build_fcn32s,
    "deeplabv3_resnet50": partial(deeplab, "resnet50"),
    "deeplabv3_resnet101": partial(deeplab, "resnet101"),
}
"""Functions that build segmentation models, from `classes`, the `model.args` and, unless it is 3, `channels`."""

NETWORKS: dict[str, Callable[..., Any]] = {"unet": unet, "fcn32s": fcn32s}
"""For models whose builder passes on **kwargs: the function whose parameters `model.args` may set."""


def segmenter_names() -> tuple[str, ...]:
    """The names of all segmentation models, for messages."""
    return (*SEGMENTERS, "light/ENCODER", "smp/ARCH/ENCODER")


def build_segmenter(name: str, classes: int, args: dict[str, Any] | None = None, channels: int = 3) -> Segmenter:
    """Build the segmentation model `name`, with random weights from torch's global generator; nothing is downloaded.

    name: one of SEGMENTERS; `light/ENCODER`: a light decoder on a network of timm; or `smp/ARCH/ENCODER`: an
    architecture (upper or lower case) and an encoder of segmentation_models_pytorch. args: keyword arguments of the
    builder. channels: of the images. Raises SightlineError for an unknown name, for invalid arguments, and for an
    encoder that the architecture does not support.
    """
    args = args or {}
    library = {"smp": smp_segmenter, "light": light_segmenter}.get(name.partition("/")[0])
    if library:
        return library(name, classes, args, channels)
    if name not in SEGMENTERS:
        raise unknown_model(name, segmenter_names(), "segmenter")
    builder = NETWORKS.get(name, SEGMENTERS[name])
    check_args(name, args, accepted_args(builder, ("classes", "channels")))
    more = channel_args(name, builder, channels)
    segmenter = checked_build(name, lambda: SEGMENTERS[name](classes=classes, **more, **args))
    if not isinstance(segmenter, Segmenter):
        why = f"it returned {type(segmenter).__name__}"
        cure = "return a sightline.models.segmenters.Segmenter"
        raise SightlineError(f"the model {name} is not a segmenter", where="model.name", why=why, cure=cure)
    segmenter.channels = channels
    return segmenter


SMP_RESERVED = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
"""Arguments of smp that `model.args` must not have: they follow from the name and the data, or change the output."""


def light_segmenter(name: str, classes: int, args: dict[str, Any], channels: int) -> Segmenter:
    """Build the model `light/ENCODER`, see `light_network`."""
    encoder = name.removeprefix("light").removeprefix("/")
    network: Any = checked_build(name, lambda: light_network(encoder, classes, channels, **args))
    assert isinstance(network, LightNetwork)
    stride = network.encoder.stride
    try:
        height, width = (int(network.enlarge * times * stride) for times in (2, 3))
        dry_run(network.encoder, (height, width), channels)
    except (RuntimeError, ValueError, AssertionError) as error:
        why = str(error).strip().split("\n")[0]
        cure = "use another network of timm, such as --model.name light/vit_small_patch14_dinov2"
        what = f"the encoder {encoder} is for images of one size only"
        raise SightlineError(what, where="model.name", why=why, cure=cure) from error
    segmenter = Segmenter(
        network,
        name=name,
        encoder_path="encoder",
        class_layers=("classes",),
        stride=stride,
        smallest=stride,
        pretrained=f"timm/{encoder}",
    )
    segmenter.channels = channels
    return segmenter


def smp_encoder(name: str) -> str:
    """The encoder of the model `smp/ARCH/ENCODER`; those of timm begin with `tu-`."""
    from segmentation_models_pytorch.encoders import is_equivalent_to_timm_universal

    encoder = name.removeprefix("smp").removeprefix("/").partition("/")[2]
    if is_equivalent_to_timm_universal(encoder):  # old names, which smp would replace with a warning
        return encoder.replace("timm-mobilenetv3", "timm-tf_mobilenetv3").replace("timm-", "tu-")
    return encoder


def pretrained_encoder(name: str, args: dict[str, Any] | None = None) -> str:
    """The model whose published weights fit the encoder of a segmentation model: `torchvision/X`, `timm/X` or `smp/X`;
    "" for a model without an encoder of a library, and for classifiers."""
    if name == "fcn32s":
        return "torchvision/vgg16_bn" if (args or {}).get("batch_norm") else "torchvision/vgg16"
    if name.startswith("deeplabv3_"):
        return f"torchvision/{name.removeprefix('deeplabv3_')}"
    if not name.startswith("smp/"):
        return f"timm/{name.removeprefix('light/')}" if name.startswith("light/") else ""
    encoder = smp_encoder(name)
    return f"timm/{encoder[3:]}" if encoder.startswith("tu-") else f"smp/{encoder}"


def smp_segmenter(name: str, classes: int, args: dict[str, Any], channels: int) -> Segmenter:
    """Build the model `smp/ARCH/ENCODER` of segmentation_models_pytorch. For encoders of timm, whose names start
    with `tu-`, `args` may also have arguments of timm's model."""
    import segmentation_models_pytorch as smp
    import timm

    encoder = smp_encoder(name)
    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    arch = name.removeprefix("smp").removeprefix("/").partition("/")[0]
    if arch.lower() not in architectures:
        names = [f"smp/{known}/{encoder}" for known in architectures]
        why = f"it must be smp/ARCH/ENCODER; the architectures are {', '.join(architectures)}"
        raise unknown_model(name, names, "segmenter", why)
    universal = encoder.startswith("tu-")
    if not (timm.is_model(encoder[3:]) if universal else encoder in smp.encoders.encoders):
        encoders = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
        why = f"segmentation_models_pytorch has no encoder {encoder!r}"
        raise unknown_model(name, [f"smp/{arch}/{other}" for other in encoders], "segmenter", why)
    accepted = accepted_args(architectures[arch.lower()], SMP_RESERVED)
    if universal:
        check_reserved(args)
        accepted += [key for key in args if key not in SMP_RESERVED]  # timm checks its own arguments
    check_args(name, args, accepted)

    def build(more: dict[str, Any]) -> nn.Module:
        return smp.create_model(arch, encoder, None, channels, classes, **more | args)

    network: Any = checked_build(name, lambda: of_any_size(encoder[3:], build) if universal else build({}))
    # DPT downsamples the deepest map once more; the attention of PAN does so three times, rounding down.
    stride = network.encoder.output_stride * (2 if arch.lower() == "dpt" else 1)
    segmenter = Segmenter(
        network,
        name=name,
        encoder_path="encoder",
        class_layers=("segmentation_head",),
        stride=stride,
        smallest=8 * stride if arch.lower() == "pan" else stride,
        convert=timm_feature_name if universal else None,
        pretrained=pretrained_encoder(name),
    )
    segmenter.channels = channels
    return segmenter


def timm_feature_name(network: nn.Module, name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Convert the name of a tensor from timm's classifiers (`stages.0.x`) to its feature extractors (`stages_0.x`)."""
    return "encoder.model." + name.replace(".", "_", 1), tensor
