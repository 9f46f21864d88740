"""How many near copies `sightline doctor` finds: photographs and an altered copy of each, one way at a time.

    python benchmarks/near_copies.py FOLDER [--count 200]

FOLDER: photographs, of which `count` are taken by seed 0. Prints for each way the share of copies that are found beside
their original, and how many pictures were grouped with a stranger.
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


def saved_again(quality: int) -> Callable[[Image.Image], Image.Image]:
    """JPEG of a quality."""

    def alter(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return alter


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Another size."""
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    )


def without_rim(share: float) -> Callable[[Image.Image], Image.Image]:
    """A rim of this share of the sides cut off, at least a pixel, and the old size again."""

    def alter(image: Image.Image) -> Image.Image:
        x, y = max(1, round(image.width * share)), max(1, round(image.height * share))
        return image.crop((x, y, image.width - x, image.height - y)).resize(image.size, Image.Resampling.BICUBIC)

    return alter


def noisy(image: Image.Image) -> Image.Image:
    """Noise of 8 levels."""
    pixels = np.asarray(image).astype(float)
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 90": saved_again(90),
    "JPEG of quality 50": saved_again(50),
    "twice the size": resized(2),
    "half the size": resized(0.5),
    "20 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "noise of 8 levels": noisy,
    "a rim of 2 % cut off": without_rim(0.02),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    chosen = random.Random(0).sample(paths, min(options.count, len(paths)))
    for name, alter in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "pictures"
            place.mkdir()
            for number, path in enumerate(chosen):
                image = Image.open(path).convert("RGB")
                image.save(place / f"{number}-a.png")
                alter(image).save(place / f"{number}-b.png")
            found = sightline.doctor(place, out=Path(folder) / "out", quiet=True)
        kinds = ("near_duplicate", "duplicate")
        groups = [group.files for finding in found.findings if finding.kind in kinds for group in finding.groups]
        pairs = {
            one
            for group in groups
            for one in numbers(group)
            if sum(Path(file).name.startswith(f"{one}-") for file in group) == 2
        }
        strangers = sum(len(numbers(group)) for group in groups if len(numbers(group)) > 1)
        print(f"{name:<22} {len(pairs) / len(chosen):7.1%} found, {strangers} pictures beside a stranger")


def numbers(group: tuple[str, ...] | list[str]) -> set[str]:
    """The originals that the files of a group are of."""
    return {Path(file).name.split("-")[0] for file in group}


if __name__ == "__main__":
    main()
