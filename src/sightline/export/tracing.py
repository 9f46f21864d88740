"""From a network to an ONNX model that takes uint8 images of any size and any number."""

import json
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import SightlineError
from ..models import parameter_count

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The first in which Resize has antialiasing and axes."""
LARGEST_BYTES = 2**31 - 2**24
"""Limit of a single file: protobuf counts with 32 bits."""


def traced(network: nn.Module, outputs: Iterable[str], smallest: int) -> "ModelProto":
    """Export a network of images uint8 [N, 3, H, W] to ONNX; raises SightlineError if torch cannot.

    smallest: lower limit of the image sides. Number, height and width of the images stay variable.
    """
    size = 4 * parameter_count(network)
    if size > LARGEST_BYTES:
        why = f"the weights have {size / 1e9:.1f} GB, and a single ONNX file can hold 2 GB"
        raise SightlineError("the network is too large", why=why, cure="--format safetensors, or a smaller ensemble")
    # Two images and two sides that are no powers of two: the exporter takes equal or special lengths for constants.
    example = torch.randint(0, 256, (2, 3, max(70, smallest + 6), max(100, smallest + 36)), dtype=torch.uint8)
    dims = {axis: torch.export.Dim(name) for axis, name in {0: "images", 2: "height", 3: "width"}.items()}
    # torch's fused attention with a bias (BEiT) has no translation; the MATH backend computes the same sum.
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network.eval(), (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(dims,),
                input_names=["images"], output_names=list(outputs), verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter's passes raise many types
            why = str(error.__cause__ or error).strip().splitlines()[0]
            cure = "--format safetensors; another version of torch may support the operation"
            raise SightlineError("torch cannot export this network to ONNX", why=why, cure=cure) from error
    assert program is not None
    return without_traces(program.model_proto)


def without_traces(model: "ModelProto") -> "ModelProto":
    """Remove the exporter's notes: lines of source code and paths of this machine."""
    graph = model.graph
    nodes = [*graph.node, *(node for function in model.functions for node in function.node)]
    values = [*graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for part in (model, graph, *model.functions, *nodes, *values):
        del part.metadata_props[:]
    for node in nodes:
        node.doc_string = ""
    return model


def serialized(model: "ModelProto", facts: dict[str, Any]) -> bytes:
    """The bytes of the file, with `facts` as JSON in its metadata, after ONNX's own checks."""
    import onnx

    texts = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in facts.items()}
    onnx.helper.set_model_props(model, texts)
    model.producer_name, model.doc_string = "sightline", ""
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
