"""Damaged images: mutants of every format, damage that still decodes, and decompression bombs."""

import contextlib
import hashlib
import io
import os
from collections.abc import Generator
from unittest import mock

from PIL import Image

from reliability.contract import Outcome, Row, Settings
from reliability.mutations import image_seeds, mutant
from reliability.trials import run_trials
from sightline.config.schema import Data
from sightline.data.decode import images
from sightline.data.decode.kinds import header_of
from sightline.errors import SightlineError

SECTION = "Invalid input"
PIXELS = 1_000_000
"""data.max_pixels of the trials. No memory may be allocated for an image whose header claims more."""
MAX_GROWTH = 150 << 20
"""Bytes by which the memory of a process may grow."""


def rejected(number: int, path: str, error: SightlineError) -> tuple[str, str]:
    """The result of a trial that raised `error`: a failure if the message lacks the file or a cure."""
    if path not in str(error):
        return "rejected", f"trial {number}: the message does not contain the file: {error}"
    if not error.cure:
        return "rejected", f"trial {number}: the message has no cure: {error}"
    return "rejected", ""


def check_mutants(settings: Settings) -> Outcome:
    """Read mutants with the loader that training, serving and reports share."""
    seeds = image_seeds()
    path = str(settings.folder / "image.bin")

    def trial(number: int) -> tuple[str, str]:
        name, mutation, content = mutant(seeds, settings.seed, number)
        with open(path, "wb") as file:
            file.write(content)
        try:
            image = images.open_image(path, PIXELS)
        except SightlineError as error:
            return rejected(number, path, error)
        except Exception as error:
            return "unexpected exception", f"trial {number} ({name}, {mutation}): {type(error).__name__}: {error}"
        if image.mode != "RGB" or image.width * image.height > PIXELS:
            return "wrong", f"trial {number} ({name}, {mutation}): decoded as {image.mode} {image.size}"
        return "decoded", ""

    return run_trials(settings.count(100_000), trial, MAX_GROWTH, first_failure_only=settings.with_defect)


def check_uploads(settings: Settings) -> Outcome:
    """Read mutants like uploads to the server: first the size from the header, then the image."""
    seeds = image_seeds()

    def trial(number: int) -> tuple[str, str]:
        name, mutation, content = mutant(seeds, settings.seed + 1, number)
        try:
            images.size_in(content)
            images.image_in(content, PIXELS)
        except SightlineError as error:
            return "rejected", "" if error.why and error.cure else f"trial {number}: no reason or cure: {error}"
        except Exception as error:
            return "unexpected exception", f"trial {number} ({name}, {mutation}): {type(error).__name__}: {error}"
        return "decoded", ""

    return run_trials(settings.count(20_000), trial, MAX_GROWTH, first_failure_only=settings.with_defect)


@contextlib.contextmanager
def only_oserror() -> Generator[None]:
    """A loader that catches OSError only, which is what decoders are documented to raise."""

    def open_image(path: str, max_pixels: int, side: int = 0, header: object = None) -> Image.Image:
        try:
            return images.decode_rgb(path, max_pixels, side, None)
        except OSError as error:
            raise images.image_error(path, error) from error

    with mock.patch.object(images, "open_image", open_image):
        yield


@contextlib.contextmanager
def message_without_file() -> Generator[None]:
    """A loader whose messages do not contain the file."""
    real = images.image_error

    def image_error(path: str, error: Exception, head: bytes | None = None) -> SightlineError:
        found = real(path, error, head)
        return SightlineError(found.what, why=found.why, cure=found.cure)

    with mock.patch.object(images, "image_error", image_error):
        yield


@contextlib.contextmanager
def only_oserror_of_uploads() -> Generator[None]:
    """A loader of uploads that catches OSError only."""

    def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
        import io

        try:
            return images.decode_rgb(io.BytesIO(content), max_pixels, side, None)
        except OSError as error:
            raise images.upload_error(content, error) from error

    with mock.patch.object(images, "image_in", image_in):
        yield


@contextlib.contextmanager
def exits() -> Generator[None]:
    """A decoder that ends the process at every hundredth file."""
    real, seen = images.decode_rgb, [0]

    def decode_rgb(*arguments: object) -> Image.Image:
        seen[0] += 1
        if seen[0] % 100 == 0:
            os._exit(11)
        return real(*arguments)  # ty: ignore[invalid-argument-type]

    with mock.patch.object(images, "decode_rgb", decode_rgb):
        yield


# ------------------------------------------------------------------------------------------------- silent damage


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def has_8_bits(content: bytes) -> bool:
    """Whether an image file has 8-bit colors by its header."""
    header = header_of(io.BytesIO(content))
    return header is not None and header.kind.plain


def check_silent(settings: Settings) -> Outcome:
    """Replace 8-bit images by mutants that still decode as such: the fingerprint of the data must change if a pixel
    does."""
    from sightline.data.image_cache import decode
    from sightline.data.sources.open import open_source

    decodable = ("jpeg", "bmp", "png")  # mutants of other formats hardly ever decode
    seeds = {name: content for name, content in image_seeds().items() if name.partition(" ")[0] in decodable}
    seeds = {name: content for name, content in seeds.items() if has_8_bits(content)}
    folder = settings.folder / "set"
    for number, content in enumerate(seeds.values()):
        class_folder = folder / f"class_{number % 2}"
        class_folder.mkdir(parents=True, exist_ok=True)
        (class_folder / f"{number}.png").write_bytes(content)
    data = Data(path=str(folder), cache_dir=str(settings.folder / "cache"))

    def fingerprint() -> str:
        source = open_source(data, 0, hold_out=False)
        return decode(source, "all", 16, data, lambda text: None).digest

    known, tried, failures, same = fingerprint(), 0, [], 0
    trials, number = settings.count(1500, 30), 0
    while tried < trials:
        name, mutation, content = mutant(seeds, settings.seed, number)
        index = list(seeds).index(name)
        number += 1
        path = folder / f"class_{index % 2}" / f"{index}.png"
        try:
            changed = images.image_in(content, PIXELS)
        except SightlineError:
            continue
        if not has_8_bits(content):  # an error of the data set
            continue
        original = images.image_in(seeds[name], PIXELS)
        square = images.Square(16)
        if (square.of(changed) == square.of(original)).all():
            same += 1
            continue
        tried += 1
        path.write_bytes(content)
        if fingerprint() == known:
            failures.append(
                f"mutant {number} ({name}, {mutation}) has different pixels, but the fingerprint is the same"
            )
        path.write_bytes(seeds[name])
    return Outcome(tried, tuple(failures), {"mutants with unchanged pixels": same, "mutants in total": number})


@contextlib.contextmanager
def fingerprint_of_names() -> Generator[None]:
    """A fingerprint of file names and labels, without the pixels."""
    from sightline.data import image_cache

    real = image_cache.content_digest
    with mock.patch.object(image_cache, "content_digest", lambda pixels, items, classes: real("", items, classes)):
        yield


# -------------------------------------------------------------------------------------------------------- bombs


def check_bombs(settings: Settings) -> Outcome:
    """Small files with many pixels are rejected by their header, without allocating memory; the message contains the
    setting that allows them."""
    large = [] if settings.short else [(30_000, 30_000), (200_000, 1_000)]
    paths = []
    for size in [(13_000, 13_000), *large, (9_460, 9_460)]:
        kinds = ("PNG", "TIFF") if size[0] > 9_460 or settings.short else ("PNG", "TIFF", "GIF", "BMP")
        for kind in kinds:
            path = settings.folder / f"{size[0]}x{size[1]}.{kind.lower()}"
            options = {"compression": "group4"} if kind == "TIFF" else {}
            Image.new("1", size).save(path, kind, **options)
            paths.append((path, size))

    def trial(number: int) -> tuple[str, str]:
        path, (width, height) = paths[number]
        try:
            images.open_image(str(path), Data().max_pixels)
        except SightlineError as error:
            text = str(error)
            if path.name not in text or "data.max_pixels" not in text:
                return "rejected", f"{path.name}: the message lacks the file or the setting: {text}"
            return "rejected", ""
        return "decoded", f"{path.name}: {width * height:,} pixels were decoded"

    outcome = run_trials(len(paths), trial, 64 << 20)
    allowed = settings.folder / "allowed.png"
    Image.new("1", (9_460, 9_460)).save(allowed)
    image = images.open_image(str(allowed), 100_000_000)
    failures = () if image.size == (9_460, 9_460) else ("data.max_pixels does not allow an image of that size",)
    return Outcome(outcome.trials + 1, outcome.failures + failures, outcome.notes)


@contextlib.contextmanager
def no_limit() -> Generator[None]:
    """A loader with Pillow's limit only, which first warns and allocates."""
    real = images.decode_rgb

    def decode_rgb(source: str, max_pixels: int, side: int, header: object) -> Image.Image:
        return real(source, 2_000_000_000, side, None)

    with mock.patch.object(images, "decode_rgb", decode_rgb):
        yield


ROWS = (
    Row(
        "mutated images",
        SECTION,
        "a damaged image of any format decodes, or is an error that names the file; the process continues",
        check_mutants,
        {
            "only OSError is caught": only_oserror,
            "messages without the file": message_without_file,
            "a decoder ends the process": exits,
        },
    ),
    Row(
        "mutated uploads",
        SECTION,
        "a damaged upload to `sightline serve` decodes, or is an error with reason and cure",
        check_uploads,
        {"only OSError is caught": only_oserror_of_uploads},
    ),
    Row(
        "silent damage to images",
        SECTION,
        "damage that still decodes and changes a pixel changes the fingerprint of the data",
        check_silent,
        {"fingerprint of names and labels only": fingerprint_of_names},
    ),
    Row(
        "decompression bombs",
        "Hostile input",
        "an image with too many pixels is rejected by its header, with the setting that allows it: data.max_pixels",
        check_bombs,
        {"no limit of pixels": no_limit},
    ),
)
