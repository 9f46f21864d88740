"""What tiling costs: megapixels/s of `predict_scene` against the bare forward pass on the same tiles, and peak memory.

Both run the same model on the same tiles with the same precision, memory format and threads, in turn; the bare
pass has its tiles in memory and drops its results. Tiles overlap, so it sees more pixels than the scene has: its
megapixels/s are divided by the overlap factor (pixels in tiles / pixels in the scene). Ratios are taken pair by pair,
because a shared machine drifts.

    python benchmarks/tiles.py --model unet --side 4096 --tile 512 --overlap 128 --pairs 5
    python benchmarks/tiles.py --memory --side 10000 --tile 512 --overlap 128

`--memory` instead predicts one synthetic scene that lies on disk as a memory map, in a process of its own, into another
memory map, and prints that process's peak resident memory (the maps' pages that are in memory count).
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


def tiny(classes: int) -> nn.Module:
    """A small net of three levels, when the toolkit's own models are not what is asked about."""
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


def build(options: argparse.Namespace) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 images [B, 3, h, w] on the processor to logits on the chosen device, ready to run."""
    device = torch.device(options.device)
    model = tiny(options.classes) if options.model == "tiny" else build_segmenter(options.model, options.classes)
    model.eval().to(device).to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32

    def forward(images: torch.Tensor) -> torch.Tensor:
        floats = images.to(device).to(torch.float32, memory_format=torch.channels_last) / 255
        with autocast(device, dtype):
            return model(floats)

    return forward


def wait(device: str) -> None:
    """Until the device has done what was asked of it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@torch.inference_mode()
def bare_seconds(forward: Callable[[torch.Tensor], torch.Tensor], options: argparse.Namespace, tiles: int) -> float:
    """Seconds of the forward pass alone over so many tiles."""
    side = min(options.tile, options.side)
    image = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
    wait(options.device)
    start = time.perf_counter()
    for _ in range(tiles):
        forward(image)
    wait(options.device)
    return time.perf_counter() - start


def tiled_seconds(
    forward: Callable[[torch.Tensor], torch.Tensor],
    options: argparse.Namespace,
    scene: np.ndarray,
    found: np.ndarray,
) -> float:
    """Seconds of `predict_scene` from the scene uint8 [3, side, side] into `found`, uint8 [side, side]."""

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        return scene[:, top : top + height, left : left + width]

    def write(top: int, classes: np.ndarray) -> None:
        found[top : top + len(classes)] = classes

    start = time.perf_counter()
    side, classes = options.side, options.classes
    tiling = Tiling(options.tile, options.overlap)
    predict_scene(forward, read, side, side, classes, tiling, write)
    wait(options.device)
    return time.perf_counter() - start


def memory_maps(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene of noise, uint8 [3, side, side], and an empty mask [side, side], both on disk."""
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
    """Predict a scene on disk and print this process's peak memory; the scene was made by another process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--make-scene", name, "--side", str(options.side)]
        subprocess.run(command, check=True)
        scene = np.memmap(folder / "scene", np.uint8, "r", shape=(3, options.side, options.side))
        found = np.memmap(folder / "mask", np.uint8, "r+", shape=(options.side, options.side))
        forward = build(options)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = tiled_seconds(forward, options, scene, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    print(
        f"{options.side} x {options.side} pixels, {options.model}, tiles of {options.tile}, overlap {options.overlap}"
    )
    print(
        f"peak memory {peak:,.0f} MiB ({before:,.0f} MiB before the first tile), {seconds:,.0f} s; target: under 2 GB"
    )


def measure_speed(options: argparse.Namespace) -> None:
    """Print one table: each pair, then the median ratio."""
    axis = tiles_along(options.side, Tiling(options.tile, options.overlap))
    tiles, pixels = len(axis.starts) ** 2, options.side**2
    factor = tiles * axis.side**2 / pixels
    forward = build(options)
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        scene, found = memory_maps(Path(name), options.side)
        bare_seconds(forward, options, 2)  # warm up
        title = f"{options.model}, {options.precision}, {tiles} tiles of {axis.side}, overlap {options.overlap}"
        print(f"{title}, {torch.get_num_threads()} threads; overlap factor {factor:.3f}; MP/s")
        print(f"{'pair':>4} {'bare forward / factor':>22} {'predict_scene':>14} {'ratio':>7}")
        for pair in range(options.pairs):
            bare = bare_seconds(forward, options, tiles)
            ours = tiled_seconds(forward, options, scene, found)
            ratios.append(bare / ours)
            print(
                f"{pair + 1:>4} {pixels / 1e6 / bare:>22.2f} {pixels / 1e6 / ours:>14.2f} {ratios[-1]:>7.3f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}; target: 0.90 or more")


def main() -> None:
    """Read the options; measure speed, or memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unet", help="tiny, or a name that build_segmenter knows")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--side", type=int, default=4096)
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
