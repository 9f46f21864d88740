"""What segmentation costs: images/s of `sightline train` in a warm epoch against a bare loop on synthetic tensors.

    python benchmarks/segment_step.py --data camvid/ --window 256 320 --pairs 5

Model, window, batch size, precision, memory format, optimizer, loss and thread count are the same. The bare loop has
its tensors in memory before the clock starts. `sightline train` is the whole command: windows of random scale that
favor rare classes, flips, color jitter, normalization, class weights; see paired.py for what of it is timed.
"""

import argparse
import os

from paired import bare_speed, compare


def bare(model: str, window: tuple[int, int], batch: int, steps: int, precision: str, classes: int) -> float:
    """Images per second of forward, backward and AdamW step on one synthetic batch."""
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
    """Print one table: each pair, then the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--window", type=int, nargs=2, default=(256, 320))
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
        "augment.window": list(window),
        "optim.ema": 0,
        "train.epochs": 2,
        "train.batch_size": options.batch,
        "train.precision": options.precision,
        "report.samples": 0,
    }
    title = f"{options.model} at {window[0]}x{window[1]}, batch {options.batch}, {options.precision}"
    compare(title, __file__, "camvid_fast", options.data, settings, options.pairs)


if __name__ == "__main__":
    main()
