"""Batch norms as part of the convolutions before them, wherever they use their running statistics.

A batch norm in evaluation mode multiplies each channel by a constant and adds another. Both can be in the weights and
the bias of the convolution before it, which saves passes over the feature maps, and their gradients. The weights are
computed in each forward pass from the parameters of both layers, which stay as they are, so training, checkpoints and
exports do not change; results differ by rounding only. docs/performance.md has the measured speed.
"""

import copy
from collections import Counter
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def fold_norms(
    network: nn.Module, shape: tuple[int, ...], run: Callable[[Any, Tensor], object] = nn.Module.__call__
) -> int:
    """Fold the batch norms of a network into the convolutions whose output only they use; returns their number.

    shape: of an image, [C, H, W]. run: a function (network, images [N, C, H, W]) with all forward passes of training,
    by default the call of the network. The layers that follow each other are found by running a copy, in evaluation and
    in training mode. Nothing is folded if the copy cannot process an image of zeros, nor on GPUs, where it was not
    measured.
    """
    norms = [module for module in network.modules() if foldable(module)]
    if not norms or next(network.parameters()).device.type != "cpu":
        return 0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        images = torch.zeros(1, *shape).to(memory_format=torch.channels_last)
        try:
            trial = copy.deepcopy(network)
            pairs, trained = (find_pairs(trial.train(mode), images, run) for mode in (False, True))
        except Exception:
            return 0
    both = [pair for pair in pairs if pair in trained]
    connect(network, both)
    return len(both)


def foldable(module: nn.Module) -> bool:
    """Whether a module is a batch norm with running statistics and parameters, of torch or timm."""
    named = type(module).__name__ == "BatchNormAct2d" and type(module).__module__.startswith("timm.")
    norm = type(module) is nn.BatchNorm2d or named
    return norm and all(getattr(module, name) is not None for name in ("running_mean", "running_var", "weight", "bias"))


class Uses(TorchDispatchMode):
    """Count the operations of torch that read each of the `watched` tensors, or any view of it.

    watched: tensors by the address of their memory; they are kept, so that no other tensor gets the address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, Tensor] = {}
        self.counts: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (place := value.untyped_storage().data_ptr()) in self.watched:
                self.counts[place] += 1
        return func(*args, **(kwargs or {}))


def find_pairs(
    network: nn.Module, images: Tensor, run: Callable[[Any, Tensor], object] = nn.Module.__call__
) -> list[tuple[str, str]]:
    """The names of (convolution, batch norm) pairs: the batch norm gets the tensor that the convolution returns, no
    other operation reads this tensor, and each is called once in a forward pass. Batch norms are in evaluation mode."""
    uses, norms, called = Uses(), list[tuple[str, Tensor]](), list[str]()
    producers: dict[int, str] = {}
    hooks = []

    def produced(name: str, output: Tensor) -> None:
        called.append(name)
        producers[id(output)] = name
        uses.watched[output.untyped_storage().data_ptr()] = output

    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
        if type(module) is nn.Conv2d or same_padding(module):
            hooks.append(module.register_forward_hook(lambda _, given, output, name=name: produced(name, output)))
        elif foldable(module):
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: norms.append((name, given[0]))))
    try:
        with uses:
            run(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    called += [name for name, _ in norms]
    pairs = [
        (producers[id(maps)], name)
        for name, maps in norms
        if id(maps) in producers and uses.counts[maps.untyped_storage().data_ptr()] == 1
    ]
    return [pair for pair in pairs if all(called.count(name) == 1 for name in pair)]


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
    """What is left of a batch norm that is part of the convolution before it: timm's have an activation.

    `interrupted` is set by the hooks of segmenters, which switch a batch norm to evaluation mode after its convolution.
    """
    if self.training or getattr(self, "interrupted", False):
        return type(self).forward(self, maps)
    return self.act(self.drop(maps)) if hasattr(self, "act") else maps
