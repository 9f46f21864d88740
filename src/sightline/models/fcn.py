"""FCN-32s on VGG16: one score map at 1/32 of the image and one transposed convolution, with four heads."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .small import he_init

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's convolutions (arXiv 1409.1556, configuration D); a max pooling 2x2 ends every stage."""


@dataclass(frozen=True)
class Head:
    """What stands behind the features of one kind of FCN-32s; kernel, stride and padding of `up` in pixels."""

    kernel: int  # of fc6; fc7 is always 1x1
    padding: int
    width: int
    fc7: bool
    dropout: type[nn.Module]
    relu: bool  # on the scores
    up: tuple[int, int, int]
    bias: bool  # of the transposed convolution
    bilinear: bool
    smallest: int  # image's side in pixels


HEADS = {
    "dense": Head(1, 0, 4096, True, nn.Dropout, False, (64, 32, 16), False, False, 32),
    "long": Head(7, 3, 4096, True, nn.Dropout, False, (64, 32, 16), False, True, 32),
    "sgd": Head(7, 3, 4096, True, nn.Dropout, False, (64, 32, 16), True, False, 32),
    "small": Head(7, 0, 1024, False, nn.Dropout2d, True, (44, 52, 0), True, False, 224),
}
"""The heads by name; FCN32s says what each is."""


class FCN32s(nn.Module):
    """[N, 3, H, W] -> logits [N, classes, H, W] for H and W multiples of 32; other sizes with `small`.

    The features have torchvision's names and shapes, so that its VGG16 loads. Kernel 64, stride 32 and 16 pixels cut
    off each edge (`padding`) put score i of a map onto the pixels 32 i to 32 i + 31, which are those that it stands
    for: 16 x 16 scores become 512 x 512 logits. The heads (settings and scores of the course reports on 2,000 land
    cover images are in issue 3; torch's defaults where a report is silent):

    dense: fc6 and fc7 as 1x1 convolutions 512 -> 4096 -> 4096, each with ReLU and dropout, a 1x1 score, a transposed
        convolution without bias. Course report, 0.6936.
    long: fc6 is the 7x7 convolution that VGG16's first linear layer is, fc7 1x1; both load from its classifier.
        Transposed convolution without bias, bilinear at the start. Long et al. 2015 (arXiv 1411.4038); report, 0.6981.
        Long et al. pad the image by 100 pixels and let the unpadded fc6 shrink the map; here fc6 is padded by 3, which
        keeps score i above pixel block i for every size of image and differs from theirs only near the edges.
    sgd: fc6 and fc7 replaced by convolutions, transposed convolution from 16x16 to 512x512. Course report, 0.5893
        (another: 0.57). It names no kernels: 7x7 (padding 3) and 1x1 are VGG16's, 64 and 32 are what 16x16 asks for.
    small: an unpadded 7x7 convolution 512 -> 1024, ReLU, 2-d dropout, 1x1 to classes, ReLU; transposed convolution with
        kernel 44, stride 52. Course report, 0.395. Its numbers fit 512-pixel images and no padding at all: 16x16
        features, 10x10 scores, 9 * 52 + 44 = 512. Score i stands for the pixels around 32 i + 112 and is painted onto
        52 i to 52 i + 43, so objects near the edges are displaced by up to 90 pixels, and the 8 pixels between two
        kernels get the bias alone. Other sizes come out as 52 h + 44 with h = H / 32 - 7, and the caller resizes them.
    """

    stride = 32

    def __init__(self, classes: int, head: Head, batch_norm: bool, width: int, dropout: float, bilinear: bool):
        super().__init__()
        self.features = vgg16_features(batch_norm)
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
        kernel, stride, cut = head.up
        self.upsample = nn.ConvTranspose2d(classes, classes, kernel, stride, cut, bias=head.bias)
        he_init(self)
        if bilinear:
            bilinear_init(self.upsample)

    def forward(self, images: Tensor) -> Tensor:
        return self.upsample(self.relu(self.score(self.head(self.features(images)))))


def vgg16_features(batch_norm: bool) -> nn.Sequential:
    """The convolutions of VGG16 as torchvision numbers them: [N, 3, H, W] -> [N, 512, H // 32, W // 32]."""
    layers: list[nn.Module] = []
    inputs = 3
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
    """Make a transposed convolution interpolate each channel bilinearly, in place; its bias becomes zero.

    Away from the edges the result is that of torch's interpolation with align_corners=False. Raises ValueError unless
    the kernel is twice the stride: narrower kernels do not reach from one value to the next.
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
    """Name and shape in an FCN32s with a 7x7 fc6 of a tensor of VGG16's classifier; all others come back unchanged.

    The linear layer reads its 512 x 7 x 7 inputs in the order in which the convolution's kernel holds them.
    """
    places = {"classifier.0": "head.fc6", "classifier.3": "head.fc7"}
    layer, _, kind = name.rpartition(".")
    fc6 = network.get_parameter("head.fc6.weight")
    # Behind a new 1x1 fc6 the old fc7 would read features that it does not know.
    if layer not in places or fc6.shape[2] != 7:
        return name, tensor
    wanted = dict(network.named_parameters()).get(target := f"{places[layer]}.{kind}")
    fits = wanted is not None and wanted.numel() == tensor.numel() and wanted.shape[0] == tensor.shape[0]
    return (target, tensor.reshape(wanted.shape)) if wanted is not None and fits else (name, tensor)


def fcn32s(
    classes: int,
    head: str = "dense",
    batch_norm: bool = False,
    width: int | None = None,
    dropout: float = 0.5,
    bilinear: bool | None = None,
) -> FCN32s:
    """FCN32s with one of HEADS. batch_norm: VGG16's version with it. width: channels of fc6 and fc7; bilinear: start of
    the transposed convolution; None for both: the head's own."""
    if head not in HEADS:
        raise ValueError(f"head is one of {', '.join(HEADS)}, found {head!r}")
    chosen = HEADS[head]
    bilinear = chosen.bilinear if bilinear is None else bilinear
    return FCN32s(classes, chosen, batch_norm, chosen.width if width is None else width, dropout, bilinear)
