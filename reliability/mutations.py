"""Small intact files of every format, and damaged copies of them, determined by a seed and a number."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image


def synthetic_image(size: tuple[int, int] = (40, 28), mode: str = "RGB", seed: int = 3) -> Image.Image:
    """A smooth color gradient with noise, which no format compresses to almost nothing; size: (width, height)."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    noise = np.random.default_rng(seed).integers(0, 30, (height, width, 3))
    pixels = np.stack([5 * x, 7 * y, 3 * (x + y)], -1) % 220 + noise
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image encoded in one format of Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _jpeg_with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return encoded(synthetic_image(), "JPEG", exif=exif)


def image_seeds() -> dict[str, bytes]:
    """By name, a file of every format and encoding that Sightline accepts."""
    color, gray = synthetic_image(), synthetic_image(mode="L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    clear = synthetic_image(mode="RGBA")
    clear.putalpha(gray)
    frames = [synthetic_image(seed=number) for number in range(3)]
    tiff = {f"tiff {name}": encoded(color, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate")}
    tiff |= {f"tiff {name}": encoded(color, "TIFF", compression=name) for name in ("jpeg", "packbits", "raw", "zstd")}
    return {
        "jpeg": encoded(color, "JPEG"),
        "jpeg gray": encoded(gray, "JPEG"),
        "jpeg cmyk": encoded(synthetic_image(mode="CMYK"), "JPEG"),
        "jpeg progressive": encoded(color, "JPEG", progressive=True, quality=90),
        "jpeg 4:4:4": encoded(color, "JPEG", subsampling=0),
        "jpeg rotated by EXIF": _jpeg_with_exif(),
        "png": encoded(color, "PNG"),
        "png 16 bit": encoded(deep, "PNG"),
        "png palette": encoded(synthetic_image(mode="P"), "PNG", transparency=3),
        "png rgba": encoded(clear, "PNG"),
        "png la": encoded(clear.convert("LA"), "PNG"),
        "png 1 bit": encoded(synthetic_image(mode="1"), "PNG"),
        "apng": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "gif": encoded(frames[0].convert("P"), "GIF", save_all=True, append_images=frames[1:]),
        "bmp": encoded(color, "BMP"),
        "bmp palette": encoded(synthetic_image(mode="P"), "BMP"),
        "webp": encoded(color, "WEBP"),
        "webp lossless": encoded(clear, "WEBP", lossless=True),
        "webp animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "tiff group 4": encoded(synthetic_image(mode="1"), "TIFF", compression="group4"),
        "tiff 16 bit": encoded(deep, "TIFF"),
        "tiff float": encoded(Image.fromarray(np.asarray(gray).astype(np.float32) / 255), "TIFF"),
        "tiff pages": encoded(color, "TIFF", save_all=True, append_images=frames[1:]),
        **tiff,
    }


def _truncate(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: random.integers(0, len(content))]


def _flip(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Flip one to eight bits anywhere."""
    changed = bytearray(content)
    for index in random.integers(0, len(content), random.integers(1, 9)):
        changed[index] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _change_header(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change one to four of the first 96 bytes, mostly to values at the limits of integer types."""
    changed = bytearray(content)
    for index in random.integers(0, min(96, len(content)), random.integers(1, 5)):
        changed[index] = random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, int(random.integers(256))])
    return bytes(changed)


def _cut(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = sorted(random.integers(0, len(content) + 1, 2).tolist())
    return content[:start] + content[end:]


def _insert(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    index = int(random.integers(0, len(content) + 1))
    return content[:index] + random.bytes(int(random.integers(1, 40))) + content[index:]


def _splice(random: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Join the beginning of one file and the end of another."""
    other = others[int(random.integers(len(others)))]
    return content[: int(random.integers(1, len(content) + 1))] + other[int(random.integers(len(other))) :]


MUTATIONS: dict[str, Callable[[np.random.Generator, bytes, Sequence[bytes]], bytes]] = {
    "truncated": _truncate,
    "bits flipped": _flip,
    "header changed": _change_header,
    "cut": _cut,
    "inserted": _insert,
    "spliced": _splice,
}


def mutant(seeds: dict[str, bytes], seed: int, number: int) -> tuple[str, str, bytes]:
    """(name of the intact file, name of the mutation, damaged bytes) for a number; files and mutations alternate."""
    names, mutations = list(seeds), list(MUTATIONS)
    name, mutation = names[number % len(names)], mutations[number // len(names) % len(mutations)]
    random = np.random.default_rng([seed, number])
    return name, mutation, MUTATIONS[mutation](random, seeds[name], list(seeds.values()))
