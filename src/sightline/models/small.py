"""A small convolutional network, and backbones without weights, as baselines."""

import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Blocks of two convolutions 3x3 with batch norm and ReLU, and max pooling 2x2; then one fully connected layer.

    [N, C, size, size] -> [N, hidden]. The last map is average-pooled to about 4 x 4, so that the number of parameters
    is similar for all image sizes. For 32-pixel images and three blocks the last map has 4 x 4 pixels anyway.
    """

    def __init__(self, size: int, widths: tuple[int, ...], hidden: int, dropout: float, channels: int):
        super().__init__()
        inputs = (channels, *widths)
        self.blocks = nn.Sequential(*(block(inputs[i], inputs[i + 1]) for i in range(len(widths))))
        side = size // 2 ** len(widths)
        # A fixed kernel: adaptive average pooling has no deterministic gradient on CUDA.
        kernel = max(1, side // 4)
        self.pool = nn.AvgPool2d(kernel)
        flat = nn.Linear(widths[-1] * (side // kernel) ** 2, hidden)
        self.hidden = nn.Sequential(flat, nn.ReLU(inplace=True), nn.Dropout(dropout))
        he_init(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.hidden(self.pool(self.blocks(images)).flatten(1))


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A block of SmallCNN: [N, inputs, H, W] -> [N, outputs, H // 2, W // 2]. The convolutions have no bias, because
    the batch norm after them has one."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def he_init(model: nn.Module) -> None:
    """Initialize convolutions and linear layers with He's normal initialization (arXiv 1502.01852) and zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def small_cnn(
    size: int, widths: tuple[int, ...] = (32, 64, 128), hidden: int = 512, dropout: float = 0.5, channels: int = 3
) -> nn.Module:
    """Build a SmallCNN for images of `size` pixels.

    widths: channels of each block. hidden: number of features. dropout: after the fully connected layer. channels: of
    the images. Raises ValueError if the images are too small.
    """
    if size < 2 ** len(widths):
        raise ValueError(f"{len(widths)} poolings need images of at least {2 ** len(widths)} pixels, found {size}")
    return SmallCNN(size, tuple(widths), hidden, dropout, channels)


class Pixels(nn.Module):
    """The pixels of an image, averaged to at most `side` x `side`: [N, C, H, W] -> [N, C * side * side]."""

    def __init__(self, size: int, side: int):
        super().__init__()
        self.pool = nn.AvgPool2d(size // side) if size > side else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(images).flatten(1)


def pixels(size: int, side: int = 32, channels: int = 3) -> nn.Module:
    """Build `Pixels`, a backbone without weights, for k-NN or logistic regression on raw pixels.

    side: largest height and width of the averaged images, a divisor of `size` if `size` is larger.
    """
    if size > side and size % side:
        raise ValueError(f"the image size must be at most {side} or a multiple of it, found {size}")
    return Pixels(size, side)


class Constant(nn.Module):
    """One feature, which is 1 for every image: [N, C, H, W] -> [N, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones_like(images[:, :1, 0, 0])


def constant(size: int, channels: int = 3) -> nn.Module:
    """Build `Constant`: with a fitted head, every image gets the frequencies of the training labels."""
    return Constant()
