"""Layers and operations in the words of the field, and the role that each plays in a drawing."""

from typing import Any

from torch import Tensor, nn

from .tree import TIMES

ACTIVATIONS = {
    **{"relu": "ReLU", "relu_": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU"},
    **{"gelu": "GELU", "silu": "SiLU", "silu_": "SiLU", "mish": "Mish", "hardswish": "Hardswish", "prelu": "PReLU"},
    **{"sigmoid": "sigmoid", "sigmoid_": "sigmoid", "hardsigmoid": "Hardsigmoid", "tanh": "tanh", "glu": "GLU"},
    **{"softmax": "softmax", "log_softmax": "log softmax", "softplus": "softplus", "logsigmoid": "log sigmoid"},
}
JOINS = {
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), "add"),
    **dict.fromkeys(("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"), "multiply"),
    **dict.fromkeys(("sub", "sub_", "__sub__", "__rsub__", "__isub__"), "subtract"),
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack", "vstack"), "concatenate"),
    **dict.fromkeys(("maximum", "max"), "maximum"),
    "stack": "stack",
    "where": "select",
}
PRODUCTS = dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum"), "matrix product")
NORMS = {"batch_norm": "batch norm", "layer_norm": "layer norm", "group_norm": "group norm", "normalize": "unit length"}
POOLS = {"avg_pool2d": "average pooling", "max_pool2d": "max pooling", "max_pool2d_with_indices": "max pooling"}
ADAPTIVE = {"adaptive_avg_pool2d": "average pooling", "adaptive_max_pool2d": "max pooling"}
MEANS = {"mean": "average", "amax": "max"}
RESIZES = dict.fromkeys(("interpolate", "upsample", "grid_sample"), "resize")
LAYERS = {"conv2d": "convolution", "conv1d": "convolution", "conv_transpose2d": "transposed convolution"}
SHAPE_ONLY = ("expand_as", "view_as", "reshape_as", "type_as")
"""Operations whose second tensor gives its shape or type and none of its values."""


def layer_words(layer: nn.Module) -> tuple[str, str]:
    """(role, words) of a module: ("convolution", "convolution 3 x 3, stride 2"), ("block", "Bottleneck")."""
    name = type(layer).__name__
    if isinstance(layer, nn.modules.conv._ConvNd):
        return "convolution", convolution_words(layer)
    if isinstance(layer, nn.Linear):
        return "linear", "linear"
    if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        return "norm", norm_words(layer)
    if isinstance(layer, nn.MultiheadAttention):
        return "attention", f"attention, {layer.num_heads} heads"
    if isinstance(layer, nn.Dropout | nn.modules.dropout._DropoutNd):
        what = "" if type(layer) is nn.Dropout else " of channels"
        return "dropout" if layer.p else "identity", f"dropout {layer.p:g}{what}"
    if name in ("StochasticDepth", "DropPath", "Permute"):
        return "identity", "permutation" if name == "Permute" else "stochastic depth"
    if isinstance(layer, nn.Identity):
        return "identity", "identity"
    if isinstance(layer, nn.Flatten | nn.Unflatten):
        return "identity", name.lower()
    if isinstance(layer, nn.Upsample):
        return "resize", f"{layer.mode} upsampling"
    if isinstance(layer, nn.Embedding):
        return "linear", "embedding"
    if type(layer) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return "sequence", "sequence"
    if type(layer).__module__.startswith(("torch.nn.modules.activation", "timm.layers.activations")):
        return "activation", name
    if type(layer).__module__ == "torch.nn.modules.pooling":
        return "pooling", pooling_words(layer)
    if "Pool" in name and not list(layer.parameters()):
        return "pooling", name
    if name in ("LayerScale", "LayerScale2d"):
        return "scale", "layer scale"
    heads = getattr(layer, "num_heads", None)
    return "block", f"{name}, {heads} heads" if isinstance(heads, int) else name


def convolution_words(layer: Any) -> str:
    """Kernel, stride, dilation and groups of a convolution, those that are not the usual ones."""
    kind = "transposed convolution" if layer.transposed else "convolution"
    words = [f"{kind} {by(layer.kernel_size)}"]
    words += [f"stride {one(layer.stride)}"] if set(layer.stride) != {1} else []
    words += [f"dilation {one(layer.dilation)}"] if set(layer.dilation) != {1} else []
    if layer.groups == layer.in_channels > 1:
        words.append("depthwise")
    elif layer.groups > 1:
        words.append(f"{layer.groups} groups")
    return ", ".join(words)


def norm_words(layer: nn.Module) -> str:
    """The kind of a normalization, with the activation that some libraries put into it."""
    kinds = ((nn.LayerNorm, "layer norm"), (nn.GroupNorm, "group norm"), (nn.RMSNorm, "RMS norm"))
    words = next((text for kind, text in kinds if isinstance(layer, kind)), "batch norm")
    inside = [text for role, text in map(layer_words, layer.children()) if role == "activation"]
    return ", ".join([words, *inside])


def pooling_words(layer: Any) -> str:
    """Kind, window and stride of a pooling layer."""
    name = type(layer).__name__
    kind = "max pooling" if "Max" in name else "average pooling" if "Avg" in name else f"pooling ({name})"
    if "Adaptive" in name:
        return f"global {kind}" if set(pair(layer.output_size)) == {1} else f"{kind} to {by(pair(layer.output_size))}"
    if not hasattr(layer, "kernel_size"):
        return kind
    window, stride = pair(layer.kernel_size), pair(layer.stride or layer.kernel_size)
    return f"{kind} {by(window)}" + (f", stride {one(stride)}" if stride != window else "")


def operation_words(name: str, inputs: Tensor | None, output: Tensor) -> tuple[str, str]:
    """(role, words) of a function of torch by its name, from one input tensor to one output; ("", "") for those that
    only move or rescale values."""
    if name in ADAPTIVE:
        single = set(output.shape[2:]) == {1}
        return "pooling", f"global {ADAPTIVE[name]}" if single else f"{ADAPTIVE[name]} to {by(output.shape[2:])}"
    if name in MEANS and inputs is not None and inputs.ndim == 4 and set(output.shape[2:]) <= {1}:
        return "pooling", f"global {MEANS[name]} pooling"
    if name in MEANS:
        return "pooling", f"{'mean' if name == 'mean' else 'maximum'} over positions"
    if name == "__getitem__" and inputs is not None and (inputs.ndim, output.ndim) == (3, 2):
        return "pooling", "one token"
    if name == "scaled_dot_product_attention":
        return "attention", "scaled dot-product attention"
    tables = ((ACTIVATIONS, "activation"), (NORMS, "norm"), (POOLS, "pooling"), (RESIZES, "resize"))
    for words, role in (*tables, (PRODUCTS, "product"), (LAYERS, "convolution"), ({"linear": "linear"}, "linear")):
        if name in words:
            return role, words[name]
    return "", ""


def by(sides: Any) -> str:
    """`3 x 3`, `1 x 7`; one side alone where there is but one."""
    return f" {TIMES} ".join("?" if side is None else f"{side:d}" for side in sides)


def one(sides: Any) -> str:
    """`2` where all sides agree, else `2 x 1`."""
    return str(sides[0]) if len(set(sides)) == 1 else by(sides)


def pair(value: Any) -> tuple[Any, ...]:
    """A pooling layer's number or numbers as two."""
    return tuple(value) if isinstance(value, tuple | list) else (value, value)
