"""Damaged images: mutants of every format, silent damage, bombs, and decoders that crash."""

import contextlib
import hashlib
import os
from collections.abc import Generator
from unittest import mock

from PIL import Image

from reliability.contract import Outcome, Row, Settings
from reliability.forked import run_trials
from reliability.mutants import image_seeds, mutant
from sightline.config.schema import Data
from sightline.data.decode import images
from sightline.errors import SightlineError

SECTION = "Bad input"
PIXELS = 1_000_000
"""data.max_pixels of the trials: a header may claim more, and then nothing may be allocated."""
MOST_BYTES = 150 << 20


def refused(number: int, path: str, error: SightlineError) -> tuple[str, str]:
    """What a refusal counts as: a failure where it does not name the file, or gives no cure."""
    if path not in str(error):
        return "refused", f"trial {number}: the message does not name the file: {error}"
    if not error.cure:
        return "refused", f"trial {number}: the message has no cure: {error}"
    return "refused", ""


def check_mutants(settings: Settings) -> Outcome:
    """Mutants through the loader that training, serving and reports share."""
    seeds = image_seeds()
    path = str(settings.folder / "picture.bin")

    def trial(number: int) -> tuple[str, str]:
        name, way, content = mutant(seeds, settings.seed, number)
        with open(path, "wb") as file:
            file.write(content)
        try:
            image = images.open_image(path, PIXELS)
        except SightlineError as error:
            return refused(number, path, error)
        except Exception as error:
            return "escaped", f"trial {number} ({name}, {way}): {type(error).__name__}: {error}"
        if image.mode != "RGB" or image.width * image.height > PIXELS:
            return "wrong", f"trial {number} ({name}, {way}): came as {image.mode} {image.size}"
        return "decoded", ""

    return run_trials(settings.count(100_000), trial, MOST_BYTES, blind=settings.blind)


def check_sent(settings: Settings) -> Outcome:
    """The same for bytes that somebody sends to the page: the size from the head, then the picture."""
    seeds = image_seeds()

    def trial(number: int) -> tuple[str, str]:
        name, way, content = mutant(seeds, settings.seed + 1, number)
        try:
            images.size_in(content)
            images.image_in(content, PIXELS)
        except SightlineError as error:
            return "refused", "" if error.why and error.cure else f"trial {number}: no reason or cure: {error}"
        except Exception as error:
            return "escaped", f"trial {number} ({name}, {way}): {type(error).__name__}: {error}"
        return "decoded", ""

    return run_trials(settings.count(20_000), trial, MOST_BYTES, blind=settings.blind)


@contextlib.contextmanager
def only_oserror() -> Generator[None]:
    """A loader that catches what decoders are documented to raise."""

    def open_image(path: str, max_pixels: int, side: int = 0, header: object = None) -> Image.Image:
        try:
            return images.decode_rgb(path, max_pixels, side, None)
        except OSError as error:
            raise images.image_error(path, error) from error

    with mock.patch.object(images, "open_image", open_image):
        yield


@contextlib.contextmanager
def nameless() -> Generator[None]:
    """A loader whose message does not say which file."""
    real = images.image_error

    def image_error(path: str, error: Exception, head: bytes | None = None) -> SightlineError:
        found = real(path, error, head)
        return SightlineError(found.what, why=found.why, cure=found.cure)

    with mock.patch.object(images, "image_error", image_error):
        yield


@contextlib.contextmanager
def only_oserror_sent() -> Generator[None]:
    def image_in(content: bytes, max_pixels: int, side: int = 0) -> Image.Image:
        import io

        try:
            return images.decode_rgb(io.BytesIO(content), max_pixels, side, None)
        except OSError as error:
            raise images.upload_error(content, error) from error

    with mock.patch.object(images, "image_in", image_in):
        yield


@contextlib.contextmanager
def dies() -> Generator[None]:
    """A decoder that ends the process at one file in a hundred."""
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


def check_silent(settings: Settings) -> Outcome:
    """Mutants that decode all the same: the data's fingerprint has to change with every pixel of them."""
    from sightline.data.image_cache import decode
    from sightline.data.sources.open import open_source

    decodable = ("jpeg", "bmp", "png")  # the others' mutants hardly ever decode
    seeds = {name: content for name, content in image_seeds().items() if name.partition(" ")[0] in decodable}
    folder = settings.folder / "set"
    for number, content in enumerate(seeds.values()):
        place = folder / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(content)
    data = Data(path=str(folder), cache_dir=str(settings.folder / "cache"))

    def fingerprint() -> str:
        source = open_source(data, 0, hold_out=False)
        return decode(source, "all", 16, data, lambda text: None).digest

    known, tried, failures, same = fingerprint(), 0, [], 0
    wanted, number = settings.count(1500, 30), 0
    while tried < wanted:
        name, way, content = mutant(seeds, settings.seed, number)
        place = list(seeds).index(name)
        number += 1
        path = folder / f"class_{place % 2}" / f"{place}.png"
        try:
            changed = images.image_in(content, PIXELS)
        except SightlineError:
            continue
        original = images.image_in(seeds[name], PIXELS)
        square = images.Square(16)
        if (square.of(changed) == square.of(original)).all():
            same += 1
            continue
        tried += 1
        path.write_bytes(content)
        if fingerprint() == known:
            failures.append(f"mutant {number} ({name}, {way}) has other pixels, and the fingerprint is the same")
        path.write_bytes(seeds[name])
    return Outcome(tried, tuple(failures), {"mutants that changed no pixel": same, "mutants in all": number})


@contextlib.contextmanager
def fingerprint_of_names() -> Generator[None]:
    """A fingerprint over the names and sizes of files, as most tools take it."""
    from sightline.data import image_cache

    real = image_cache.content_digest
    with mock.patch.object(image_cache, "content_digest", lambda pixels, items, classes: real("", items, classes)):
        yield


# -------------------------------------------------------------------------------------------------------- bombs


def check_bombs(settings: Settings) -> Outcome:
    """Small files of many pixels: refused at the head, with the switch that allows them and no memory for them."""
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
                return "refused", f"{path.name}: the message names no file or no switch: {text}"
            return "refused", ""
        return "decoded", f"{path.name}: {width * height:,} pixels were decoded"

    outcome = run_trials(len(paths), trial, 64 << 20)
    allowed = settings.folder / "allowed.png"
    Image.new("1", (9_460, 9_460)).save(allowed)
    image = images.open_image(str(allowed), 100_000_000)
    failures = () if image.size == (9_460, 9_460) else ("data.max_pixels does not allow what it says",)
    return Outcome(outcome.trials + 1, outcome.failures + failures, outcome.notes)


@contextlib.contextmanager
def no_limit() -> Generator[None]:
    """A loader without a limit of its own, under Pillow's, which warns first and allocates."""
    real = images.decode_rgb

    def decode_rgb(source: str, max_pixels: int, side: int, header: object) -> Image.Image:
        return real(source, 2_000_000_000, side, None)

    with mock.patch.object(images, "decode_rgb", decode_rgb):
        yield


ROWS = (
    Row(
        "mutated images",
        SECTION,
        "a damaged image of any format decodes or is refused in words that name the file; the process lives",
        check_mutants,
        {
            "a loader that catches only OSError": only_oserror,
            "a loader that names no file": nameless,
            "a decoder that ends the process": dies,
        },
    ),
    Row(
        "mutated images sent to the page",
        SECTION,
        "the same for bytes that are sent to `sightline serve`",
        check_sent,
        {"a loader that catches only OSError": only_oserror_sent},
    ),
    Row(
        "silent damage to images",
        SECTION,
        "damage that still decodes changes the fingerprint of the data wherever it changes a pixel",
        check_silent,
        {"a fingerprint of names and labels": fingerprint_of_names},
    ),
    Row(
        "decompression bombs",
        "Hostile input",
        "refused by pixels from the head alone, with the switch that allows them: data.max_pixels",
        check_bombs,
        {"a loader without a limit": no_limit},
    ),
)
