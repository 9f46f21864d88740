"""Roles and descriptions of layers and operations, such as ("convolution", "convolution 3 x 3, stride 2")."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .tree import TIMES, Role

ACTIVATIONS = {
    **{"relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU", "glu": "GLU"},
    **{"gelu": "GELU", "silu": "SiLU", "mish": "Mish", "hardswish": "Hardswish", "prelu": "PReLU", "tanh": "tanh"},
    **{"sigmoid": "sigmoid", "hardsigmoid": "Hardsigmoid", "softmax": "softmax", "log_softmax": "log softmax"},
    **{"softplus": "softplus", "logsigmoid": "log sigmoid"},
}
OPERATIONS: dict[Role, dict[str, str]] = {
    "activation": ACTIVATIONS,
    "attention": {"scaled_dot_product_attention": "softmax attention"},
    "product": dict.fromkeys(("matmul", "rmatmul", "bmm", "baddbmm", "einsum"), "matrix product"),
    "resize": dict.fromkeys(("interpolate", "upsample", "grid_sample"), "resize"),
    "pooling": {"max_pool2d": "max pooling", "max_pool2d_with_indices": "max pooling", "avg_pool2d": "average pooling"},
    "norm": {"batch_norm": "batch norm", "layer_norm": "layer norm", "group_norm": "group norm"},
    "convolution": {"conv2d": "convolution", "conv_transpose2d": "transposed convolution"},
    "linear": {"linear": "linear"},
}
JOINS = {
    **{"add": "add", "mul": "multiply", "multiply": "multiply", "sub": "subtract", "cat": "concatenate"},
    **{"concat": "concatenate", "concatenate": "concatenate", "hstack": "concatenate", "vstack": "concatenate"},
    **{"maximum": "maximum", "max": "maximum", "stack": "stack", "where": "select"},
}
BATCH_NORM = nn.modules.batchnorm._BatchNorm
NORMS = {nn.LayerNorm: "layer norm", nn.GroupNorm: "group norm", nn.RMSNorm: "RMS norm", BATCH_NORM: "batch norm"}
SHAPE_ONLY = ("expand_as", "view_as", "reshape_as", "type_as")
"""Operations that use only the shape or type of their second tensor."""


def describe_layer(layer: nn.Module) -> tuple[Role, str]:
    """(role, description) of a module: ("convolution", "convolution 3 x 3, stride 2"), ("block", "Bottleneck")."""
    name, kind = type(layer).__name__, type(layer)
    if isinstance(layer, nn.modules.conv._ConvNd):
        return "convolution", describe_convolution(layer)
    if isinstance(layer, nn.Linear | nn.Embedding):
        return "linear", "embedding" if isinstance(layer, nn.Embedding) else "linear"
    norm = next((words for kind, words in NORMS.items() if isinstance(layer, kind)), "")
    if norm and not list(layer.children()):  # a subclass may contain an activation, as in timm
        return "norm", norm
    if isinstance(layer, nn.MultiheadAttention):
        return "attention", f"attention, {layer.num_heads} heads"
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        words = f"dropout {layer.p:g}" if kind is nn.Dropout else f"dropout {layer.p:g} of channels"
        return "dropout" if layer.p else "identity", words
    if isinstance(layer, nn.Identity | nn.Flatten | nn.Unflatten) or name in ("StochasticDepth", "DropPath", "Permute"):
        return "identity", name
    if isinstance(layer, nn.Upsample):
        return "resize", f"{layer.mode} upsampling"
    if kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return "sequence", "sequence"
    if kind.__module__.startswith(("torch.nn.modules.activation", "timm.layers.activations")):
        return "activation", name
    if kind.__module__ == "torch.nn.modules.pooling":
        return "pooling", describe_pooling(layer)
    if "Pool" in name and not list(layer.parameters()):
        return "pooling", name
    if name in ("LayerScale", "LayerScale2d"):
        return "scale", "layer scale"
    heads = getattr(layer, "num_heads", None)
    return "block", f"{name}, {heads} heads" if isinstance(heads, int) else name


def describe_convolution(layer: Any) -> str:
    """Describe a convolution by its kernel size, and by stride, dilation and groups if they are not 1."""
    words = [f"{'transposed ' if layer.transposed else ''}convolution {sides(layer.kernel_size)}"]
    words += [f"stride {side(layer.stride)}"] if set(layer.stride) != {1} else []
    words += [f"dilation {side(layer.dilation)}"] if set(layer.dilation) != {1} else []
    if layer.groups > 1:
        words.append("depthwise" if layer.groups == layer.in_channels else f"{layer.groups} groups")
    return ", ".join(words)


def describe_pooling(layer: Any) -> str:
    """Describe a pooling layer by its kind, window and stride."""
    name = type(layer).__name__
    kind = "max pooling" if "Max" in name else "average pooling" if "Avg" in name else f"pooling ({name})"
    if "Adaptive" in name:
        size = _pair(layer.output_size)
        return f"global {kind}" if set(size) == {1} else f"{kind} to {sides(size)}"
    if not hasattr(layer, "kernel_size"):
        return kind
    window, stride = _pair(layer.kernel_size), _pair(layer.stride or layer.kernel_size)
    return f"{kind} {sides(window)}" + (f", stride {side(stride)}" if stride != window else "")


def describe_operation(name: str, taken: Tensor, output: Tensor) -> tuple[Role | None, str]:
    """(role, description) of a torch function; (None, "") for functions without description, such as reshapes and
    additions.

    name: of the function. taken: its first input tensor. output: its first output tensor.
    """
    kind = {"mean": "average", "amax": "max", "adaptive_avg_pool2d": "average", "adaptive_max_pool2d": "max"}.get(name)
    if kind and taken.ndim == 4 and set(output.shape[2:]) <= {1}:
        return "pooling", f"global {kind} pooling"
    if kind and "adaptive" in name:
        return "pooling", f"{kind} pooling to {sides(output.shape[2:])}"
    if kind:
        return "pooling", f"{'mean' if name == 'mean' else 'maximum'} over positions"
    if name == "__getitem__" and (taken.ndim, output.ndim) == (3, 2):
        return "pooling", "select one token"
    plain = name.strip("_")
    return next(((role, words[plain]) for role, words in OPERATIONS.items() if plain in words), (None, ""))


def join_name(name: str) -> str:
    """Description of a torch function that combines several tensors, `__iadd__`: "add"; "" for other functions."""
    plain = name.strip("_")
    return JOINS.get(plain) or (JOINS.get(plain[1:], "") if name.startswith("__") else "")


def sides(values: Any) -> str:
    """Format sizes as `3 x 3` or, if there is only one, `3`; None is formatted as `?`."""
    return f" {TIMES} ".join("?" if value is None else f"{value:d}" for value in values)


def side(values: Any) -> str:
    """Format sizes as `2` if all are equal, else as `2 x 1`."""
    return str(values[0]) if len(set(values)) == 1 else sides(values)
