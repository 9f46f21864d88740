"""Recall and precision of `groups_of_near_copies`, and so of `sightline doctor`, for altered copies of photographs.

    python benchmarks/near_copies.py FOLDER [--count 200] [--side 0] [--seed 0]

FOLDER: photographs, of which a random sample of --count is copied. --side: resize the photographs to this height and
width in pixels. Prints, with 95 % intervals, the share of the photographs that have a near copy without any added,
and for each alteration the share of copies that are grouped with their original, or with an unrelated image.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from sightline.data.near import groups_of_near_copies, image_at
from sightline.stats.intervals import wilson_interval


def recompressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Compress as JPEG of this quality."""

    def alter(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return alter


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Resize by a factor, then to the original size, as decoding does."""
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    ).resize(image.size, Image.Resampling.BILINEAR)


def without_border(share: float) -> Callable[[Image.Image], Image.Image]:
    """Remove a border of this share of the sides, at least a pixel, and resize to the original size."""

    def alter(image: Image.Image) -> Image.Image:
        x, y = max(1, round(image.width * share)), max(1, round(image.height * share))
        return image.crop((x, y, image.width - x, image.height - y)).resize(image.size, Image.Resampling.BICUBIC)

    return alter


def noisy(image: Image.Image) -> Image.Image:
    """Add Gaussian noise with a standard deviation of 8 gray levels."""
    pixels = np.asarray(image).astype(float)
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "identical": lambda image: image,
    "JPEG of quality 90": recompressed(90),
    "JPEG of quality 75": recompressed(75),
    "JPEG of quality 60": recompressed(60),
    "JPEG of quality 50": recompressed(50),
    "twice the size": resized(2),
    "half the size": resized(0.5),
    "10 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "10 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "20 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "noise of 8 levels": noisy,
    "border of 2 % removed": without_border(0.02),
    "border of 5 % removed": without_border(0.05),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def planted(images: np.ndarray, alteration: str, seed: int, count: int) -> tuple[int, int]:
    """Add altered copies of `count` random images: (number of copies that are grouped with their original, number of
    copies that are grouped with an unrelated image).

    images: uint8 [N, 3, H, W]. An image is unrelated if it is not in the group of the original without the copies.
    """
    rows = np.random.default_rng(seed).choice(len(images), count, replace=False)
    altered = [np.asarray(ALTERATIONS[alteration](image_at(images, row))).transpose(2, 0, 1) for row in rows]
    before, after = groups_of_near_copies(images), groups_of_near_copies(np.concatenate([images, altered]))
    copies = after[len(images) :]
    unrelated = [
        np.any(after[: len(images)][before != before[row]] == group) for row, group in zip(rows, copies, strict=True)
    ]
    return int((copies == after[rows]).sum()), int(np.sum(unrelated))


def read_folder(folder: Path, side: int) -> np.ndarray:
    """The images of a folder and its subfolders, which must be of one size unless `side` is given: uint8
    [N, 3, H, W]."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    opened = [Image.open(path).convert("RGB") for path in paths]
    resized = [image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0) for image in opened if side]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in resized or opened])


def share(count: int, total: int) -> str:
    """A share with its 95 % interval, as text."""
    low, high = wilson_interval(count, total)
    return f"{count / total:6.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images = read_folder(options.folder, options.side)
    sizes = np.bincount(groups_of_near_copies(images))
    grouped = int(sizes[sizes > 1].sum())
    print(f"{len(images):,} images, {len(sizes):,} groups; in a group with another: {share(grouped, len(images))}")
    count = min(options.count, len(images))
    for name in ALTERATIONS:
        found, unrelated = planted(images, name, options.seed, count)
        print(f"{name:<22} found {share(found, count):<24} unrelated {share(unrelated, count)}")


if __name__ == "__main__":
    main()
