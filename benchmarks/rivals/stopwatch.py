"""What each rival's worker shares. Standard library and torch only: it runs in the rival's own environment.

A worker is run as `ENVIRONMENT/bin/python with_NAME.py SETTINGS`, SETTINGS being JSON. It trains two epochs with its
tool's own training loop and prints one line of JSON last: the seconds at which each epoch began and ended since the
worker had imported its tool, and the versions.
"""

import importlib.util
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

MARK = "stopwatch "


def settings() -> SimpleNamespace:
    """data, out, model, classes, size, batch, steps, workers, precision, cache, threads, small_cnn, timm_script."""
    return SimpleNamespace(**json.loads(sys.argv[1]))


class Stopwatch:
    """Seconds of each epoch's training: from asking for its first batch to the end of its last step."""

    def __init__(self, *packages: str):
        self.start = time.perf_counter()
        self.packages = ("torch", "torchvision", *packages)
        self.epochs: list[list[float]] = []

    def begin(self, *_: Any) -> None:
        self.epochs.append([time.perf_counter() - self.start])

    def end(self, *_: Any) -> None:
        self.epochs[-1].append(time.perf_counter() - self.start)

    def report(self, **notes: Any) -> None:
        """Print the result, and end: no tool's clean-up counts or fails."""
        versions = {}
        for package in self.packages:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        sys.stdout.flush()
        print(f"\n{MARK}{json.dumps({'epochs': self.epochs, 'versions': versions, **notes})}", flush=True)
        os._exit(0)


def build_network(wanted: SimpleNamespace) -> Any:
    """torchvision's ResNet-18 as it stands (7x7 stem, pooling), or Sightline's small network out of its own file."""
    import torch
    import torchvision

    torch.manual_seed(0)
    if wanted.model == "resnet18":
        return torchvision.models.resnet18(weights=None, num_classes=wanted.classes)
    spec = importlib.util.spec_from_file_location("small", wanted.small_cnn)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return torch.nn.Sequential(module.small_cnn(wanted.size), torch.nn.Linear(512, wanted.classes))
