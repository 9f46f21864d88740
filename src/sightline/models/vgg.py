"""VGG-13 with batch normalization (arXiv 1409.1556, configuration B), also for small images."""

from torch import Tensor, nn

from .small import he_init

CHANNELS = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
"""Output channels of the convolutions in each stage. Each stage ends with max pooling 2x2."""


class VGG(nn.Module):
    """Backbone: ten convolutions 3x3 with batch norm and ReLU, five max poolings, and two of VGG's three fully
    connected layers.

    [N, C, size, size] -> [N, width]; `size` at least 32. Global average pooling precedes the fully connected layers, so
    that all image sizes are possible; the paper flattens the 7 x 7 map of 224-pixel images instead.
    """

    def __init__(self, width: int, dropout: float, channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for stage in CHANNELS:
            for outputs in stage:
                # No bias, because batch norm has one.
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *fully_connected(inputs, width, dropout), *fully_connected(width, width, dropout)
        )
        he_init(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def fully_connected(inputs: int, outputs: int, dropout: float) -> tuple[nn.Module, ...]:
    """Linear, ReLU, dropout: [N, inputs] -> [N, outputs]."""
    return nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)


def vgg13_bn(size: int, width: int = 4096, dropout: float = 0.5, channels: int = 3) -> nn.Module:
    """Build a VGG-13 with batch norm. size: image side in pixels, which is not used. channels: of the images. The third
    fully connected layer of VGG is the head of the classifier, which is not part of the backbone."""
    return VGG(width, dropout, channels)
