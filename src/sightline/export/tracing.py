"""Export a network to an ONNX model with dynamic batch size, height and width."""

import json
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.channels import RGB, Channels
from ..errors import SightlineError
from ..models import parameter_count

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""ONNX operator set version: the first whose Resize operator has antialiasing and axes."""
LARGEST_BYTES = 2**31 - 2**24
"""Maximum size of the weights in bytes. An ONNX file is limited to 2 GiB, because protobuf uses 32-bit sizes."""


def traced(network: nn.Module, outputs: Iterable[str], smallest: int, channels: Channels = RGB) -> "ModelProto":
    """Export a network with the input [N, C, H, W] of the type of `channels` to ONNX; N, H and W are dynamic.

    outputs: names of the outputs. smallest: minimum height and width. Raises SightlineError if torch cannot export the
    network, or if it is too large for one file.
    """
    size = 4 * parameter_count(network)
    if size > LARGEST_BYTES:
        why = f"its weights have {size / 1e9:.1f} GB, but an ONNX file can have at most 2 GB"
        raise SightlineError(
            "the network is too large for an ONNX file", why=why, cure="use --format safetensors, or a smaller ensemble"
        )
    # Unequal dimensions other than 1: the exporter would treat equal or special ones as constants.
    example = torch.randint(0, 256, (2, len(channels), max(70, smallest + 6), max(100, smallest + 36)))
    example = example.to(getattr(torch, channels.dtype))
    dims = {0: "images", 2: "height", 3: "width"}  # by name: with `torch.export.Dim` torch often captures twice
    # Fused attention with a bias (BEiT) has no ONNX translation; the MATH backend is equivalent.
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), traceable_rotations(network):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network.eval(), (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(dims,),
                input_names=["images"], output_names=list(outputs), verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter raises many types
            why = str(error.__cause__ or error).strip().splitlines()[0]
            cure = "use --format safetensors; another version of torch may support the operation"
            raise SightlineError("torch cannot export this network to ONNX", why=why, cure=cure) from error
    assert program is not None
    return without_metadata(program.model_proto)


@contextmanager
def traceable_rotations(network: nn.Module) -> Generator[None]:
    """Context manager: the rotary embeddings of DINOv3 are computed by `rotations`, which can be exported with dynamic
    height and width."""
    from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3

    found: list[Any] = [module for module in network.modules() if isinstance(module, RotaryEmbeddingDinoV3)]
    found = [module for module in found if module.grid_indexing == "ij"]
    for module in found:
        module._create_embed = partial(rotations, module)
    try:
        yield
    finally:
        for module in found:
            del module._create_embed


def rotations(rope: Any, feat_shape: list[int], no_aug: bool = False) -> torch.Tensor:
    """`_create_embed` of timm's `RotaryEmbeddingDinoV3` in evaluation mode: sine and cosine float [H * W, 2 * dim].

    timm divides by `float(side)`, which makes the side a constant of an exported graph; here it is a tensor.
    """
    least, largest = torch.sym_min(*feat_shape), torch.sym_max(*feat_shape)
    divisors = {"separate": feat_shape, "min": (least, least), "max": (largest, largest)}[rope.normalize_coords]
    steps = [
        (torch.arange(side).float() + 0.5 + rope.grid_offset) / torch.scalar_tensor(divisor)
        for side, divisor in zip(feat_shape, divisors, strict=True)
    ]
    coordinates = 2 * torch.stack(torch.meshgrid(steps, indexing="ij"), dim=-1).flatten(0, 1) - 1
    return torch.cat(rope._get_pos_embed_from_coords(coordinates), dim=-1)


def without_metadata(model: "ModelProto") -> "ModelProto":
    """Remove the exporter's metadata, which contains lines of source code and local paths."""
    graph = model.graph
    nodes = [*graph.node, *(node for function in model.functions for node in function.node)]
    values = [*graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for part in (model, graph, *model.functions, *nodes, *values):
        del part.metadata_props[:]
    for node in nodes:
        node.doc_string = ""
    return model


def serialized(model: "ModelProto", facts: dict[str, Any]) -> bytes:
    """Check the model with `onnx.checker` and return it as bytes, with `facts` as JSON in its metadata. Names that are
    not UTF-8 are escaped."""
    import onnx

    texts = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in facts.items()}
    texts = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in texts.items()}
    onnx.helper.set_model_props(model, texts)
    model.producer_name, model.doc_string = "sightline", ""
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


@contextmanager
def constant_same_padding() -> Generator[None]:
    """Context manager: the padding of timm's convolutions with TensorFlow's "same" padding is computed for sides that
    are multiples of the stride, where it does not depend on the side.

    It is right for images whose sides are multiples of the network's stride. Without it, the graph has nested
    conditions on the sides, and the export of an EfficientNet takes longer than ten minutes.
    """
    from timm.layers import padding

    def constant(side: int, kernel: int, stride: int, dilation: int) -> int:
        return max((kernel - 1) * dilation + 1 - stride, 0)

    original = padding.get_same_padding
    padding.get_same_padding = constant  # ty: ignore[invalid-assignment]
    try:
        yield
    finally:
        padding.get_same_padding = original
