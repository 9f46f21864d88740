"""The plain loop: timm's network, ImageFolder and DataLoader, LogisticRegressionCV of scikit-learn.

Images are resized to a square with the interpolation of the weights, as in the recipe `photos_probe`. The penalty is
one of the recipe's, with the lowest log-loss on a fifth of the training images; then all images are fitted.
"""

import time
import warnings
from types import SimpleNamespace

import numpy as np
import timm.data
import torch
from probe_network import frozen_network
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stopwatch import print_result, settings
from torchvision.datasets import ImageFolder


@torch.inference_mode()
def features_of(split: str, network: torch.nn.Module, transform: object, options: SimpleNamespace) -> tuple:
    """(features [N, D], labels [N]) of the images in the class folders of a split."""
    dataset = ImageFolder(f"{options.data}/{split}", transform)
    loader = torch.utils.data.DataLoader(dataset, options.batch, num_workers=options.workers)
    layout = torch.channels_last if options.precision.endswith("channels_last") else torch.contiguous_format
    parts = []
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision.startswith("bf16")):
        for images, _ in loader:
            parts.append(network(images.to(memory_format=layout)).float())
    return torch.cat(parts).numpy(), np.asarray(dataset.targets)


def main() -> None:
    options = settings()
    torch.set_num_threads(options.threads)
    network, config = frozen_network(options)
    if options.precision.endswith("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    side = {"input_size": (3, options.size, options.size), "crop_pct": 1.0, "crop_mode": "squash"}
    transform = timm.data.create_transform(**{**config, **side})
    start = time.perf_counter()
    train, labels = features_of("train", network, transform, options)
    if options.features_only:
        return print_result(("torch", "timm"), features_seconds=time.perf_counter() - start)
    val, truth = features_of("val", network, transform, options)
    between = time.perf_counter()
    held = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
    strengths = [1 / (penalty * len(train)) for penalty in options.penalties]
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        choice = {"scoring": "neg_log_loss", "use_legacy_attributes": False}
        regression = LogisticRegressionCV(Cs=strengths, cv=held, max_iter=1000, **choice)
        probe = make_pipeline(StandardScaler(), regression).fit(train, labels)
    values = {"features_seconds": between - start, "fit_seconds": time.perf_counter() - between}
    values["accuracy"] = float((probe.predict(val) == truth).mean())
    print_result(("torch", "timm", "scikit-learn"), **values, penalty=1 / (regression.C_ * len(train)))


if __name__ == "__main__":
    main()
