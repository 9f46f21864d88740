"""Overhead of `sightline train` for segmentation: its images/s relative to a bare PyTorch loop.

    python benchmarks/segment_step.py --data camvid/ --window 256 320 --pairs 5

Model, crop size, batch size, precision, memory format, optimizer, loss and number of threads are the same. The bare
loop trains on one batch of synthetic tensors in memory. `sightline train` is the complete command, with randomly scaled
crops that favor rare classes, flips, color jitter and class weights; paired.py describes which part is timed.
"""

import argparse
import os

from paired import bare_speed, compare


def bare(model: str, window: tuple[int, int], batch: int, steps: int, precision: str, classes: int) -> float:
    """Return the images per second of forward pass, backward pass and AdamW step on one synthetic batch."""
    import torch

    from sightline.models.segmenters import build_segmenter
    from sightline.tasks.segment.losses import cross_entropy

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = build_segmenter(model, classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    images = torch.randn(batch, 3, *window).to(memory_format=torch.channels_last)
    masks = torch.randint(classes, (batch, *window), dtype=torch.uint8)
    weights = torch.ones(classes)
    return bare_speed(lambda: cross_entropy(network(images), masks, weights), optimizer, batch, steps, precision)


def main() -> None:
    """Print a table of all pairs, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--window", type=int, nargs=2, default=(256, 320), help="height and width of the crops")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--bare", action="store_true", help="run only the bare loop and print its images/s")
    options = parser.parse_args()
    window = (options.window[0], options.window[1])
    if options.bare:
        print(bare(options.model, window, options.batch, options.steps, options.precision, options.classes))
        return
    settings = {
        "model.name": options.model,
        "data.palette": "camvid",
        "augment.window": list(window),
        "optim.ema": 0,
        "train.epochs": 2,
        "train.batch_size": options.batch,
        "train.precision": options.precision,
        "report.samples": 0,
    }
    title = f"{options.model} at {window[0]}x{window[1]}, batch {options.batch}, {options.precision}"
    compare(title, __file__, "landcover_scratch", options.data, settings, options.pairs)


if __name__ == "__main__":
    main()
