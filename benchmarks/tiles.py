"""Overhead of tiled prediction: megapixels/s of `predict_scene` relative to bare forward passes, and peak memory.

Both run the same model on the same number of tiles with the same precision, memory format and threads, alternately. The
bare passes repeat one tile in memory and discard the results. Megapixels/s count each pixel of the scene once, although
the tiles overlap. The overlap factor is the number of pixels in all tiles divided by that of the scene. A ratio is
computed for each pair of consecutive measurements, because the speed of a shared machine drifts.

    python benchmarks/tiles.py --model unet --side 4096 --tile 512 --overlap 128 --pairs 5
    python benchmarks/tiles.py --memory --side 10000 --tile 512 --overlap 128

With --memory, it predicts a synthetic scene from a memory-mapped file into another and prints the peak resident memory
of the process, including pages of the mapped files.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sightline.engine.device import autocast
from sightline.inference.tiles import Tiling, predict_scene, tiles_along
from sightline.models.segmenters import build_segmenter


def tiny_network(classes: int) -> nn.Module:
    """Build a small convolutional network, to measure tiling with a fast forward pass."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, classes, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    )


def build_forward(options: argparse.Namespace) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from images, uint8 [B, 3, h, w] on the CPU, to logits on --device."""
    device = torch.device(options.device)
    model = (
        tiny_network(options.classes) if options.model == "tiny" else build_segmenter(options.model, options.classes)
    )
    model.eval().to(device).to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32

    def forward(images: torch.Tensor) -> torch.Tensor:
        floats = images.to(device).to(torch.float32, memory_format=torch.channels_last) / 255
        with autocast(device, dtype):
            return model(floats)

    return forward


def synchronize(device: str) -> None:
    """Wait until a CUDA device has finished all operations."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@torch.inference_mode()
def bare_seconds(forward: Callable[[torch.Tensor], torch.Tensor], options: argparse.Namespace, tiles: int) -> float:
    """Return the seconds of `tiles` forward passes of one tile."""
    side = min(options.tile, options.side)
    image = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
    synchronize(options.device)
    start = time.perf_counter()
    for _ in range(tiles):
        forward(image)
    synchronize(options.device)
    return time.perf_counter() - start


def tiled_seconds(
    forward: Callable[[torch.Tensor], torch.Tensor],
    options: argparse.Namespace,
    scene: np.ndarray,
    mask: np.ndarray,
) -> float:
    """Return the seconds of `predict_scene` from a scene, uint8 [3, side, side], into a mask, uint8 [side, side]."""

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        return scene[:, top : top + height, left : left + width]

    def write(top: int, classes: np.ndarray) -> None:
        mask[top : top + len(classes)] = classes

    start = time.perf_counter()
    side, classes = options.side, options.classes
    tiling = Tiling(options.tile, options.overlap)
    predict_scene(forward, read, side, side, classes, tiling, write)
    synchronize(options.device)
    return time.perf_counter() - start


def memory_maps(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Create memory-mapped files: a scene of noise, uint8 [3, side, side], and an empty mask, uint8 [side, side]."""
    scene = np.memmap(folder / "scene", np.uint8, "w+", shape=(3, side, side))
    random = np.random.default_rng(0)
    for plane in scene:
        for top in range(0, side, 512):
            plane[top : top + 512] = random.integers(0, 256, plane[top : top + 512].shape, dtype=np.uint8)
    scene.flush()
    return (
        np.memmap(folder / "scene", np.uint8, "r", shape=(3, side, side)),
        np.memmap(folder / "mask", np.uint8, "w+", shape=(side, side)),
    )


def measure_memory(options: argparse.Namespace) -> None:
    """Predict a memory-mapped scene and print the peak memory of this process; a subprocess creates the scene."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--make-scene", name, "--side", str(options.side)]
        subprocess.run(command, check=True)
        scene = np.memmap(folder / "scene", np.uint8, "r", shape=(3, options.side, options.side))
        mask = np.memmap(folder / "mask", np.uint8, "r+", shape=(options.side, options.side))
        forward = build_forward(options)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = tiled_seconds(forward, options, scene, mask)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # in KiB on Linux
    print(
        f"{options.side} x {options.side} pixels, {options.model}, tiles of {options.tile}, overlap {options.overlap}"
    )
    print(
        f"peak memory {peak:,.0f} MiB ({before:,.0f} MiB before the first tile), {seconds:,.0f} s; target: under 2 GB"
    )


def measure_speed(options: argparse.Namespace) -> None:
    """Print a table of all pairs, and the median ratio."""
    axis = tiles_along(options.side, Tiling(options.tile, options.overlap))
    tiles, pixels = len(axis.starts) ** 2, options.side**2
    factor = tiles * axis.side**2 / pixels
    forward = build_forward(options)
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        scene, mask = memory_maps(Path(name), options.side)
        bare_seconds(forward, options, 2)  # warm up
        title = f"{options.model}, {options.precision}, {tiles} tiles of {axis.side}, overlap {options.overlap}"
        print(f"{title}, {torch.get_num_threads()} threads; overlap factor {factor:.3f}; MP/s")
        print(f"{'pair':>4} {'bare forward passes':>22} {'predict_scene':>14} {'ratio':>7}")
        for pair in range(options.pairs):
            bare = bare_seconds(forward, options, tiles)
            ours = tiled_seconds(forward, options, scene, mask)
            ratios.append(bare / ours)
            print(
                f"{pair + 1:>4} {pixels / 1e6 / bare:>22.2f} {pixels / 1e6 / ours:>14.2f} {ratios[-1]:>7.3f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}; target: 0.90 or more")


def main() -> None:
    """Measure speed, or with --memory, peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unet", help="tiny, or the name of a segmentation model of Sightline")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--side", type=int, default=4096, help="height and width of the scene")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of speed")
    parser.add_argument("--make-scene", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make_scene:
        memory_maps(Path(options.make_scene), options.side)
    elif options.memory:
        measure_memory(options)
    else:
        measure_speed(options)


if __name__ == "__main__":
    main()
