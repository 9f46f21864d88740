"""Overhead of `sightline train` for classification: its images/s relative to a bare PyTorch loop.

Both train the same model with the same batch size, precision, memory format, optimizer and number of threads.

    python benchmarks/classify_step.py --data objects50/ --model resnet18 --size 32 --pairs 5

The bare loop trains on one batch of synthetic tensors in memory: no data loading, augmentation, logging or evaluation.
`sightline train` is the complete command, with random crops and flips; paired.py describes which part is timed.
"""

import argparse
import os

from paired import bare_speed, compare


def bare(model: str, size: int, batch: int, steps: int, precision: str, classes: int) -> float:
    """Return the images per second of forward pass, backward pass and SGD step on one synthetic batch."""
    import torch
    from torch.nn import functional

    from sightline.models import build_model

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = build_model(model, classes, size).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))
    return bare_speed(lambda: functional.cross_entropy(network(images), labels), optimizer, batch, steps, precision)


def main() -> None:
    """Print a table of all pairs, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--bare", action="store_true", help="run only the bare loop and print its images/s")
    options = parser.parse_args()
    if options.bare:
        shape = (options.model, options.size, options.batch, options.steps)
        print(bare(*shape, options.precision, options.classes))
        return
    settings = {
        "data.size": options.size,
        "model.name": options.model,
        "augment.resize": 0,
        "augment.crop": "random",
        "augment.padding": 4,
        "train.epochs": 2,
        "train.batch_size": options.batch,
        "train.precision": options.precision,
        "loss.smoothing": 0,
        "report.samples": 0,
    }
    title = f"{options.model} at {options.size}x{options.size}, batch {options.batch}, {options.precision}"
    compare(title, __file__, "photos_scratch", options.data, settings, options.pairs)


if __name__ == "__main__":
    main()
