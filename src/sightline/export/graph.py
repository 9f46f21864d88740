"""From a network to an ONNX graph that takes pictures as they are: uint8, any size, any number of them."""

import json
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ENVIRONMENT, SightlineError
from ..models import parameter_count
from .runtime import load_onnxruntime

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The first in which Resize has antialiasing and axes."""
LARGEST_BYTES = 2**31 - 2**24
"""A file of one piece cannot be larger: protobuf counts with 32 bits."""


def require_onnx() -> None:
    """SightlineError where onnx, onnxscript or onnxruntime is not installed."""
    try:
        load_onnxruntime()
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        why, cure = str(error), "pip install 'sightline-vision[onnx]'"
        raise SightlineError("ONNX needs packages that are not here", why=why, cure=cure, status=ENVIRONMENT) from error


def traced(
    network: nn.Module, example: torch.Tensor, outputs: tuple[str, ...], input_name: str, free: tuple[int, ...]
) -> "ModelProto":
    """The network as an ONNX model of one input and these outputs.

    example: a batch of two, for a single image would be taken to mean that there is always one. free: axes of the input
    whose length is not fixed. SightlineError where torch cannot translate the network.
    """
    size = 4 * parameter_count(network)
    if size > LARGEST_BYTES:
        why = f"the weights alone are {size / 1e9:.1f} GB, and an ONNX file of one piece holds 2 GB"
        raise SightlineError("the network is too large", why=why, cure="--format safetensors")
    names = {0: "images", 2: "height", 3: "width"}
    shapes = {axis: torch.export.Dim(names[axis]) for axis in free}
    # torch's fused attention has no translation where it has a bias (BEiT); written out it is the same sum.
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(shapes,),
                input_names=[input_name],
                output_names=list(outputs),
                verbose=False,
            )
        except Exception as error:  # the exporter raises what its many passes raise
            why = str(error.__cause__ or error).strip().splitlines()[0]
            cure = "--format safetensors; another version of torch may know the operation too"
            raise SightlineError("torch cannot write this network as ONNX", why=why, cure=cure) from error
    assert program is not None
    return without_traces(program.model_proto)


def without_traces(model: "ModelProto") -> "ModelProto":
    """The model without what the exporter noted of its own work: lines of source code and paths of this machine."""
    for place in (model, model.graph, *model.functions, *model.graph.value_info, *model.graph.input):
        del place.metadata_props[:]
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            del node.metadata_props[:]
            node.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    for value in model.graph.output:
        del value.metadata_props[:]
    return model


def described(model: "ModelProto", facts: dict[str, Any]) -> "ModelProto":
    """The model with these facts in its metadata, each a JSON text, and checked against ONNX's own rules."""
    import onnx

    onnx.helper.set_model_props(
        model, {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in facts.items()}
    )
    model.producer_name, model.doc_string = "sightline", ""
    onnx.checker.check_model(model)
    return model
