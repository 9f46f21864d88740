"""Shared by the scripts of this folder, which run in the environments of other tools and import only those.

A script is run as `ENVIRONMENT/bin/python with_NAME.py SETTINGS`, where SETTINGS is JSON. It trains two epochs with the
training loop of its tool. Its last line of output is JSON: the start and end of each epoch, in seconds since the tool
was imported, and the versions of the packages.
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
    """Parse the settings: data, out, model, classes, size, batch, steps, workers, precision, cache, threads, small_cnn
    and timm_script."""
    return SimpleNamespace(**json.loads(sys.argv[1]))


class Stopwatch:
    """Records the start and end of the training steps of each epoch, including data loading."""

    def __init__(self, *packages: str):
        self.start = time.perf_counter()
        self.packages = ("torch", "torchvision", *packages)
        self.epochs: list[list[float]] = []

    def begin(self, *_: Any) -> None:
        self.epochs.append([time.perf_counter() - self.start])

    def end(self, *_: Any) -> None:
        self.epochs[-1].append(time.perf_counter() - self.start)

    def report(self, **notes: Any) -> None:
        """Print the result and exit without the tool's cleanup."""
        print_result(self.packages, epochs=self.epochs, **notes)
        os._exit(0)


def print_result(packages: tuple[str, ...], **values: Any) -> None:
    """Print the last line of a worker's output: its results and the versions of these packages as JSON."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    sys.stdout.flush()
    print(f"\n{MARK}{json.dumps({'versions': versions, **values})}", flush=True)


def build_network(options: SimpleNamespace) -> Any:
    """Build torchvision's ResNet-18 (7x7 stem, max pooling), or `small_cnn` of Sightline, loaded from its file."""
    import torch
    import torchvision

    torch.manual_seed(0)
    if options.model == "resnet18":
        return torchvision.models.resnet18(weights=None, num_classes=options.classes)
    spec = importlib.util.spec_from_file_location("small", options.small_cnn)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return torch.nn.Sequential(module.small_cnn(options.size), torch.nn.Linear(512, options.classes))
