"""Heads of classifiers, and the multi-layer perceptrons of pre-training."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

HIDDEN_WIDTH, HIDDEN_LAYERS = 1000, 3


def mlp_head(width: int, classes: int) -> nn.Sequential:
    """Head [N, width] -> logits [N, classes]: four linear layers, with LeakyReLU and dropout 0.5 after the first three,
    which have width 1000. He initialization for LeakyReLU. The head follows the report of the recipe `transfer_a`."""
    layers: list[nn.Module] = []
    for inputs in (width, *[HIDDEN_WIDTH] * (HIDDEN_LAYERS - 1)):
        layers += [nn.Linear(inputs, HIDDEN_WIDTH), nn.LeakyReLU(inplace=True), nn.Dropout(0.5)]
    head = nn.Sequential(*layers, nn.Linear(HIDDEN_WIDTH, classes))
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
    return head


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "mlp": mlp_head}
"""Functions that build heads: (number of features, number of classes) -> module."""


def mlp(inputs: int, widths: Sequence[int], norm: bool = False) -> nn.Sequential:
    """Multi-layer perceptron [N, inputs] -> [N, widths[-1]]: linear layers, with batch norm and ReLU after all but the
    last.

    norm: add a batch norm without affine parameters after the last layer. Layers before a batch norm have no bias.
    """
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise([inputs, *widths])):
        last = index == len(widths) - 1
        layers.append(nn.Linear(fan_in, fan_out, bias=last and not norm))
        if not last:
            layers += [nn.BatchNorm1d(fan_out), nn.ReLU(inplace=True)]
        elif norm:
            layers.append(nn.BatchNorm1d(fan_out, affine=False))
    return nn.Sequential(*layers)
