"""Export a network to an ONNX model with dynamic batch size, height and width."""

import json
import warnings
from collections.abc import Iterable
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
    dims = {axis: torch.export.Dim(name) for axis, name in {0: "images", 2: "height", 3: "width"}.items()}
    # Fused attention with a bias (BEiT) has no ONNX translation; the MATH backend is equivalent.
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
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
    """Check the model with `onnx.checker` and return it as bytes, with `facts` as JSON in its metadata."""
    import onnx

    texts = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in facts.items()}
    onnx.helper.set_model_props(model, texts)
    model.producer_name, model.doc_string = "sightline", ""
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
