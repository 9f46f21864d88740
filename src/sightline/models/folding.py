"""Batch norms as part of the convolutions before them, wherever they use their running statistics.

A batch norm in evaluation mode multiplies each channel by a constant and adds another. Both can be in the weights and
the bias of the convolution before it, which saves passes over the feature maps, and their gradients. The weights are
computed in each forward pass from the parameters of both layers, which stay as they are, so training, checkpoints and
exports do not change; results differ by rounding only. docs/performance.md has the measured speed.
"""

import copy
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3
"""Largest difference of the outputs, relative to the largest of them; float32 differs by about 1e-6."""


def fold_norms(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Fold the batch norms of a network into the convolutions whose output only they use; returns their number.

    shape: of an image, [C, H, W]. The layers that follow each other are found in a forward pass of a copy with random
    statistics. If the folded copy has other outputs, such as with a convolution whose output is used twice, nothing is
    folded. Nothing is folded on GPUs, where it was not measured. network: returns one tensor.
    """
    norms = [module for module in network.modules() if foldable(module)]
    if not norms or next(network.parameters()).device.type != "cpu":
        return 0
    trial = copy.deepcopy(network).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in trial.modules():
            if foldable(module):
                randomize(module)
        images = torch.randn(1, *shape).to(memory_format=torch.channels_last)
        pairs, expected = find_pairs(trial, images)
        connect(trial, pairs)
        if (trial(images) - expected).abs().max() > TOLERANCE * expected.abs().max():
            return 0
    connect(network, pairs)
    return len(pairs)


def foldable(module: nn.Module) -> bool:
    """Whether a module is a batch norm with running statistics and parameters, of torch or timm."""
    named = type(module).__name__ == "BatchNormAct2d" and type(module).__module__.startswith("timm.")
    norm = type(module) is nn.BatchNorm2d or named
    return norm and all(getattr(module, name) is not None for name in ("running_mean", "running_var", "weight", "bias"))


def randomize(norm: Any) -> None:
    """Set statistics and parameters of a batch norm to random values, with which it does change its input."""
    for value in (norm.running_var, norm.weight):
        value.uniform_(0.5, 1.5)
    for value in (norm.running_mean, norm.bias):
        value.normal_(0, 0.3)


def find_pairs(network: nn.Module, images: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """The names of (convolution, batch norm) pairs: the batch norm gets the tensor that the convolution returns, and
    each is called once in a forward pass. Also returns the output of the network."""
    outputs: list[tuple[str, Tensor]] = []
    inputs: list[tuple[str, Tensor]] = []
    hooks = []
    for name, module in network.named_modules():
        if type(module) is nn.Conv2d or same_padding(module):
            kept = lambda module, inputs, output, name=name: outputs.append((name, output))  # noqa: E731
            hooks.append(module.register_forward_hook(kept))
        elif foldable(module):
            seen = lambda module, values, name=name: inputs.append((name, values[0]))  # noqa: E731
            hooks.append(module.register_forward_pre_hook(seen))
    try:
        expected = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    producers = {id(tensor): name for name, tensor in outputs}
    called = [name for name, _ in (*outputs, *inputs)]
    pairs = [(producers[id(tensor)], name) for name, tensor in inputs if id(tensor) in producers]
    return [pair for pair in pairs if all(called.count(name) == 1 for name in pair)], expected


def same_padding(module: nn.Module) -> bool:
    """Whether a module is timm's convolution with the padding of TensorFlow."""
    return type(module).__name__ == "Conv2dSame" and type(module).__module__.startswith("timm.")


def connect(network: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Fold the batch norms of these pairs. Bound methods, because a copy of the network then has its own."""
    for convolution, norm in pairs:
        first, second = network.get_submodule(convolution), network.get_submodule(norm)
        vars(first)["norm_after"] = second  # not as a submodule, which would change the names of the weights
        vars(first)["forward"] = MethodType(folded_convolution, first)
        vars(second)["forward"] = MethodType(folded_norm, second)
        vars(second)["folded"] = True


def unfold_norms(network: nn.Module) -> None:
    """Undo `fold_norms`: for exports, whose tools fold constants, and for weights that are sharded over processes."""
    for module in network.modules():
        if "norm_after" in vars(module) or "folded" in vars(module):
            for name in ("norm_after", "folded", "forward"):
                vars(module).pop(name, None)


def folded_convolution(self: Any, images: Tensor) -> Tensor:
    """The convolution with the batch norm after it, if that uses its running statistics; else the convolution."""
    norm = vars(self)["norm_after"]
    if norm.training:
        return type(self).forward(self, images)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if self.bias is not None:
        bias = bias + self.bias * scale
    if same_padding(self):
        from timm.layers.padding import pad_same

        images = pad_same(images, self.weight.shape[-2:], self.stride, self.dilation)
    return self._conv_forward(images, self.weight * scale[:, None, None, None], bias)


def folded_norm(self: Any, maps: Tensor) -> Tensor:
    """What is left of a batch norm that is part of the convolution before it: timm's have an activation."""
    if self.training:
        return type(self).forward(self, maps)
    return self.act(self.drop(maps)) if hasattr(self, "act") else maps
