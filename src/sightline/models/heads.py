"""Heads of classifiers, and the multi-layer perceptrons of pre-training."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN_WIDTH, HIDDEN_LAYERS = 1000, 3
SMALLEST_SHARE = 1e-4
"""Shares of the votes of neighbors below this are raised to it, so that no loss is infinite."""


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


class NearestHead(nn.Module):
    """Head [N, width] -> logits [N, classes]: weighted k-nearest-neighbor classification of stored features.

    The k stored features with the highest cosine similarity vote for their classes with weight exp(similarity /
    temperature); k = 20 and temperature 0.07 as in arXiv 2104.14294 and 1805.01978. The mean of the stored features is
    subtracted from all features first. The logits are those of the shares of the votes: their logarithms for one
    label per image, and log(p / (1 - p)) for label sets. Before `store`, all logits are 0.
    """

    def __init__(self, width: int, classes: int, k: int = 20, temperature: float = 0.07):
        super().__init__()
        self.k, self.classes = k, classes
        self.temperature = nn.Parameter(torch.tensor(temperature))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("bank", torch.zeros(0, width))
        self.register_buffer("shares", torch.zeros(0, classes))
        self.register_buffer("several", torch.zeros(()))
        self.register_load_state_dict_pre_hook(self.resize)

    @torch.no_grad()
    def store(self, features: Tensor, labels: Tensor) -> None:
        """Store features [N, width] and their labels: class indices int64 [N], or label sets bool [N, classes]."""
        sets = labels.ndim == 2
        self.mean = features.float().mean(0)
        self.bank = functional.normalize(features.float() - self.mean, dim=1)
        self.shares = labels.float() if sets else functional.one_hot(labels, self.classes).float()
        self.several = torch.tensor(float(sets), device=features.device)

    def forward(self, features: Tensor) -> Tensor:
        if not len(self.bank):
            return torch.zeros(len(features), self.classes, device=features.device) * self.temperature
        with torch.autocast(features.device.type, enabled=False):  # in bf16, similar neighbors would be ties
            similarity = functional.normalize(features.float() - self.mean, dim=1) @ self.bank.T
            nearest, index = similarity.topk(min(self.k, len(self.bank)), dim=1)
            votes = ((nearest / self.temperature).softmax(1).unsqueeze(2) * self.shares[index]).sum(1)
            return votes.clamp(SMALLEST_SHARE, 1.0).log() - self.several * (1 - votes).clamp(SMALLEST_SHARE, 1.0).log()

    @staticmethod
    def resize(head: Any, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Make room for the features of a checkpoint, whose number a new head does not know."""
        for name in ("bank", "shares"):
            if (stored := state.get(prefix + name)) is not None:
                setattr(head, name, torch.zeros_like(stored, device=head.mean.device))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "mlp": mlp_head, "knn": NearestHead}
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
