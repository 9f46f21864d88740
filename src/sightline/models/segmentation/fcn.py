"""FCN-32s on VGG16 for segmentation: class scores at 1/32 of the resolution, upsampled by a transposed convolution."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..small import he_init

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of VGG16's convolutions (arXiv 1409.1556, configuration D). Each stage ends with max pooling 2x2."""


@dataclass(frozen=True)
class Head:
    """The layers after the features in a variant of FCN-32s."""

    kernel: int  # of fc6; fc7 is always 1x1
    padding: int  # of fc6
    width: int  # channels of fc6 and fc7
    fc7: bool  # whether there is an fc7
    dropout: type[nn.Module]
    relu: bool  # whether a ReLU follows the scores
    up: tuple[int, int, int]  # kernel, stride and padding of the transposed convolution
    bias: bool  # whether the transposed convolution has a bias
    bilinear: bool  # whether it is initialized as bilinear interpolation
    smallest: int  # smallest image side in pixels


HEADS = {
    "dense": Head(1, 0, 4096, True, nn.Dropout, False, (64, 32, 16), False, False, 32),
    "long": Head(7, 3, 4096, True, nn.Dropout, False, (64, 32, 16), False, True, 32),
    "sgd": Head(7, 3, 4096, True, nn.Dropout, False, (64, 32, 16), True, False, 32),
    "small": Head(7, 0, 1024, False, nn.Dropout2d, True, (44, 52, 0), False, False, 224),
}
"""The four heads of FCN-32s by name, which the docstring of FCN32s describes."""


class FCN32s(nn.Module):
    """[N, C, H, W] -> logits [N, classes, H, W] for H and W multiples of 32; other output sizes for the head `small`.

    The features have torchvision's names and shapes, so weights of its VGG16 can be loaded. The transposed convolution
    with kernel 64, stride 32 and padding 16 maps 16 x 16 scores to 512 x 512 logits. Score i is upsampled around the
    pixels 32 i to 32 i + 31, which are its own.

    The heads follow reports of a course on land-cover segmentation (docs/recipes.md). Numbers are the validation mean
    IoU in these reports, for 2,000 training images. Settings that they do not give have torch's defaults.

    dense: fc6 and fc7 as 1x1 convolutions 512 -> 4096 -> 4096, each with ReLU and dropout; 1x1 scores; a transposed
        convolution without bias. Reported: 0.6936.
    long: Long et al. 2015 (arXiv 1411.4038): fc6 is VGG16's first linear layer as a 7x7 convolution, fc7 is 1x1; both
        can be loaded from VGG16's classifier. The transposed convolution has no bias and is initialized as bilinear
        interpolation. Reported: 0.6981. Long et al. pad the image by 100 pixels and do not pad fc6. Here fc6 has
        padding 3, which aligns scores and pixels for every image size, and differs from the paper near the edges only.
    sgd: as `long`, but the transposed convolution has a bias and random initialization. Reported: 0.5893; 0.57 in a
        second report. The kernel sizes are not reported: 7x7 and 1x1 are those of VGG16, and 64 and 32 follow
        from 16 x 16 -> 512 x 512.
    small: a 7x7 convolution without padding 512 -> 1024, ReLU, 2-d dropout, 1x1 scores, ReLU; transposed
        convolution with kernel 44 and stride 52, without bias. Reported: 0.395. The sizes are for 512-pixel images:
        16x16 features, 10x10 scores, 9 * 52 + 44 = 512. The logits are misaligned: score i has its receptive field
        around pixel 32 i + 112, but is upsampled to 52 i to 52 i + 43. So objects near the edges are displaced by up to
        90 pixels. No kernel reaches the 8 pixels between two kernels, 26.1 % of the pixels of a 512-pixel image. All
        their logits are 0, so they are predicted as class 0 whatever the image shows. In general the output side is
        52 h + 44 with h = H / 32 - 7; the caller resizes it.
    """

    stride = 32

    def __init__(
        self, classes: int, head: Head, batch_norm: bool, width: int, dropout: float, bilinear: bool, channels: int
    ):
        super().__init__()
        self.features = vgg16_features(batch_norm, channels)
        self.smallest = head.smallest
        layers: dict[str, nn.Module] = {}
        inputs = STAGES[-1][-1]
        sizes = {"6": (head.kernel, head.padding)} | ({"7": (1, 0)} if head.fc7 else {})
        for number, (kernel, padding) in sizes.items():
            layers[f"fc{number}"] = nn.Conv2d(inputs, width, kernel, padding=padding)
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
            layers[f"drop{number}"] = head.dropout(dropout)
            inputs = width
        self.head = nn.Sequential()
        for name, layer in layers.items():
            self.head.add_module(name, layer)
        self.score = nn.Conv2d(width, classes, 1)
        self.relu = nn.ReLU(inplace=True) if head.relu else nn.Identity()
        kernel, stride, padding = head.up
        self.upsample = nn.ConvTranspose2d(classes, classes, kernel, stride, padding, bias=head.bias)
        he_init(self)
        if bilinear:
            bilinear_init(self.upsample)

    def forward(self, images: Tensor) -> Tensor:
        return self.upsample(self.relu(self.score(self.head(self.features(images)))))


def vgg16_features(batch_norm: bool, channels: int) -> nn.Sequential:
    """The convolutions of VGG16, with torchvision's module names: [N, C, H, W] -> [N, 512, H // 32, W // 32]."""
    layers: list[nn.Module] = []
    inputs = channels
    for stage in STAGES:
        for outputs in stage:
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


@torch.no_grad()
def bilinear_init(layer: nn.ConvTranspose2d) -> None:
    """Initialize a transposed convolution so that it interpolates each channel bilinearly; its bias is set to zero.

    Away from the edges the result equals functional.interpolate with align_corners=False. Raises ValueError unless the
    kernel size is twice the stride.
    """
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    if kernel != 2 * stride:
        raise ValueError(f"a transposed convolution with kernel {kernel} and stride {stride} cannot be bilinear")
    distance = (torch.arange(kernel) - (kernel - 1) / 2).abs() / stride
    tent = 1 - distance
    layer.weight.zero_()
    for channel in range(min(layer.in_channels, layer.out_channels)):
        layer.weight[channel, channel] = tent[:, None] * tent[None, :]
    if layer.bias is not None:
        layer.bias.zero_()


def from_vgg16(network: nn.Module, name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Convert a tensor of VGG16's classifier to the name and shape that it has in an FCN32s with a 7x7 fc6.

    All other tensors are returned unchanged. A linear layer on 512 x 7 x 7 inputs has the same weights, in the same
    order, as a 7x7 convolution.
    """
    layers = {"classifier.0": "head.fc6", "classifier.3": "head.fc7"}
    layer, _, kind = name.rpartition(".")
    fc6 = network.get_parameter("head.fc6.weight")
    # VGG16's fc7 needs VGG16's fc6, which a 1x1 fc6 replaces.
    if layer not in layers or fc6.shape[2] != 7:
        return name, tensor
    wanted = dict(network.named_parameters()).get(target := f"{layers[layer]}.{kind}")
    fits = wanted is not None and wanted.numel() == tensor.numel() and wanted.shape[0] == tensor.shape[0]
    return (target, tensor.reshape(wanted.shape)) if wanted is not None and fits else (name, tensor)


def fcn32s(
    classes: int,
    head: str = "dense",
    batch_norm: bool = False,
    width: int | None = None,
    dropout: float = 0.5,
    bilinear: bool | None = None,
    channels: int = 3,
) -> FCN32s:
    """Build an FCN32s with one of the HEADS.

    batch_norm: use VGG16 with batch norm. width: channels of fc6 and fc7; None for the head's default. bilinear:
    whether the transposed convolution is initialized as bilinear interpolation; None for the head's default. channels:
    of the images. Raises ValueError for an unknown head.
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, found {head!r}")
    chosen = HEADS[head]
    bilinear = chosen.bilinear if bilinear is None else bilinear
    width = chosen.width if width is None else width
    return FCN32s(classes, chosen, batch_norm, width, dropout, bilinear, channels)
