"""Time what a pre-training step with two views could save: one forward pass for both, inference mode, one augmentation.

    python benchmarks/two_views.py --threads 1

Each row alternates two ways of computing the same, with torch's own layers: the backbone on two batches or on one of
twice the size, forward and backward (only networks without batch norm could do the latter: with it, both views would
share statistics, which BYOL and MoCo v3 do not); the target network without gradients or in inference mode; the
augmentation of two views in two calls or in one. Printed are the medians of the times in milliseconds, and those of the
ratios of the pairs with their quartiles.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from convolutions import time_call
from sightline.data.augment.batch import NORMALIZATIONS
from sightline.models import build_backbone
from sightline.recipes import load_recipe
from sightline.tasks.pretrain.build import view_functions
from sightline.tasks.pretrain.config import PretrainConfig

NETWORKS = {
    "fastnet (moco_fast)": ("fastnet", {"widths": [64, 128, 256]}),
    "ResNet-18": ("resnet18", {}),
    "ViT-tiny, patches of 4": ("timm/vit_tiny_patch16_224", {"patch_size": 4}),
    "ConvNeXt-atto": ("timm/convnext_atto", {"patch_size": 2}),
}
SIDE = 32


def compare(title: str, now: Callable[[], object], other: Callable[[], object], pairs: int) -> None:
    """Print a row: both are called once, and then alternately."""
    now(), other()
    times = np.array([[time_call(now), time_call(other)] for _ in range(pairs)])
    first, second = np.median(times, 0) * 1000
    low, ratio, high = np.percentile(times[:, 0] / times[:, 1], (25, 50, 75))
    print(f"{title:<52}{first:>8.1f}{second:>8.1f}{ratio:>8.3f} ({low:.3f} to {high:.3f})", flush=True)


def backward(network: torch.nn.Module, *views: torch.Tensor) -> None:
    """Forward pass of each batch, and one backward pass."""
    sum(network(view).square().mean() for view in views).backward()
    network.zero_grad(set_to_none=True)


def without_gradient(network: torch.nn.Module, images: torch.Tensor, inference: bool) -> None:
    """The forward pass of a target network."""
    with torch.inference_mode() if inference else torch.no_grad():
        network(images)


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{'':<52}{'now':>8}{'other':>8}{'ratio':>8}")
    images = torch.randint(0, 255, (options.batch, 3, SIDE, SIDE), dtype=torch.uint8)
    view = images.float().div(255).to(memory_format=torch.channels_last)
    both = torch.cat([view, view]).to(memory_format=torch.channels_last)
    for title, (name, args) in NETWORKS.items():
        network = build_backbone(name, SIDE, args)[0].to(memory_format=torch.channels_last).train()
        passes = partial(backward, network, view, view), partial(backward, network, both)
        compare(f"{title}: two passes / one", *passes, options.pairs)
        modes = partial(without_gradient, network, view, False), partial(without_gradient, network, view, True)
        compare(f"{title}: no_grad / inference_mode", *modes, options.pairs)
    config = load_recipe("moco_fast")
    assert isinstance(config, PretrainConfig)
    (first, second), _ = view_functions(config, *NORMALIZATIONS["imagenet"])
    samples, twice = torch.arange(options.batch), torch.cat([images, images])
    compare(
        "augmentation of moco_fast: two calls / one",
        lambda: (first(images, samples, 0, 0), second(images, samples, 0, 0)),
        lambda: second(twice, torch.arange(2 * options.batch), 0, 0),
        options.pairs,
    )


if __name__ == "__main__":
    main()
