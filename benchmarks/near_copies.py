"""Recall of `sightline doctor` for near copies: photographs, each with an altered copy.

    python benchmarks/near_copies.py FOLDER [--count 200]

FOLDER: photographs, of which a random sample of --count is used (seed 0). Prints for each alteration the share of
copies that are grouped with their original, and the number of images that are grouped with an unrelated image.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import sightline


def recompressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Compress as JPEG of this quality."""

    def alter(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return alter


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Resize by a factor."""
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    )


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
    "JPEG of quality 90": recompressed(90),
    "JPEG of quality 50": recompressed(50),
    "twice the size": resized(2),
    "half the size": resized(0.5),
    "20 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "noise of 8 levels": noisy,
    "border of 2 % removed": without_border(0.02),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    sample = random.Random(0).sample(paths, min(options.count, len(paths)))
    for name, alter in ALTERATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            images.mkdir()
            for index, path in enumerate(sample):
                image = Image.open(path).convert("RGB")
                image.save(images / f"{index}-a.png")
                alter(image).save(images / f"{index}-b.png")
            result = sightline.doctor(images, out=Path(folder) / "out", quiet=True)
        kinds = ("near_duplicate", "duplicate")
        groups = [group.files for finding in result.findings if finding.kind in kinds for group in finding.groups]
        found = {
            original
            for group in groups
            for original in originals(group)
            if sum(Path(file).name.startswith(f"{original}-") for file in group) == 2
        }
        unrelated = sum(len(originals(group)) for group in groups if len(originals(group)) > 1)
        print(f"{name:<22} {len(found) / len(sample):7.1%} found, {unrelated} grouped with an unrelated image")


def originals(group: tuple[str, ...] | list[str]) -> set[str]:
    """Return the indices of the original images of a group's files."""
    return {Path(file).name.split("-")[0] for file in group}


if __name__ == "__main__":
    main()
