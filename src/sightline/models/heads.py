"""What stands on a backbone: a classifier's head, the projector and predictor of pre-training."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

WIDE, LAYERS = 1000, 4


def mlp_head(width: int, classes: int) -> nn.Sequential:
    """[N, width] -> logits [N, classes]: four layers 1000 wide with LeakyReLU and dropout 0.5, then the classes.

    He initialization for LeakyReLU. It is the classifier of one of the course reports.
    """
    layers: list[nn.Module] = []
    for inputs in (width, *[WIDE] * (LAYERS - 1)):
        layers += [nn.Linear(inputs, WIDE), nn.LeakyReLU(inplace=True), nn.Dropout(0.5)]
    head = nn.Sequential(*layers, nn.Linear(WIDE, classes))
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
    return head


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "mlp": mlp_head}
"""Functions of the features' width and the number of classes."""


def mlp(inputs: int, widths: Sequence[int], norm: bool = False) -> nn.Sequential:
    """[N, inputs] -> [N, widths[-1]]: linear layers, each but the last with batch norm and ReLU.

    norm: batch norm without scale and shift behind the last as well. Layers before a batch norm have no bias.
    """
    layers: list[nn.Module] = []
    sizes = [inputs, *widths]
    for place, (before, after) in enumerate(pairwise(sizes)):
        last = place == len(widths) - 1
        layers.append(nn.Linear(before, after, bias=last and not norm))
        if not last:
            layers += [nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        elif norm:
            layers.append(nn.BatchNorm1d(after, affine=False))
    return nn.Sequential(*layers)
