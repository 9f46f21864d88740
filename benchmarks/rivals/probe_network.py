"""Shared by the workers of probe_rivals.py: the network of timm with the weights of the given file, and its images."""

from types import SimpleNamespace
from typing import Any

import timm
import torch
from safetensors.torch import load_file


def frozen_network(options: SimpleNamespace) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Build the network without its classifier, with the weights of the file, in evaluation mode: (network, its data
    configuration, such as mean, standard deviation and interpolation)."""
    name = options.model.removeprefix("timm/")
    published = timm.get_pretrained_cfg(name)
    config = timm.data.resolve_data_config({}, pretrained_cfg=published.to_dict())
    settings = {"img_size": options.size} if published.fixed_input_size else {}
    network = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    tensors = load_file(options.weights)
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise SystemExit(f"{options.weights} does not have the tensors {missing[:5]} of {name}")
    network.load_state_dict({key: tensors[key] for key in wanted})
    return network.eval(), config
