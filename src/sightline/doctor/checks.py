"""Checks of single images and of class counts: functions from the properties of images (`facts.Facts`) to findings."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ..data.decode.kinds import Kind
from ..data.decode.survey import top_of
from ..data.sources.splits import ALL
from ..errors import counted
from .facts import Facts
from .findings import Finding, Group, finding

RARE = 0.2
"""Some properties (such as grayscale) are only reported if at most this share of the images has them; if more images
have one, it is normal for the data."""
NOT_ALL = 1 - 1e-9
"""Limit like RARE for properties that are reported unless all images have them."""
APART = 4.0
"""An image is tiny or huge if its side is smaller or larger than the side of the median image by this factor."""
LEAST_SIDE, MOST_PIXELS = 8, 50_000_000
"""Absolute limits: an image is tiny if a side has fewer pixels than the first, and huge if it has more pixels than
the second."""
LONG = 3.0
"""An image is long if its aspect ratio exceeds both this and twice the median aspect ratio."""
GRAY = 4
"""An image is gray if the three channels differ by at most this (of 255) in every pixel of its thumbnail."""
IMBALANCE = 10
"""A class is rare if the largest class has at least this many times its number of images."""
EMPTY = 0.5
"""An image is reported if at least this share of its values has no data."""


def image_checks(facts: Sequence[Facts]) -> list[Finding]:
    """Find unreadable images, wrong file extensions, and images with unusual properties. Images of another kind of
    pixels than most have a finding of their own (`pixel_checks`)."""
    good, wrong = [fact for fact in facts if not fact.why], []
    usual = most_common(facts)
    found = finding(
        "unreadable", [Group((fact.name,), fact.why) for fact in facts if fact.why and not odd(fact, usual)]
    )
    known = Image.registered_extensions()
    for fact in good:
        extension, kind = os.path.splitext(fact.name)[1].lower(), fact.header.format.replace("MPO", "JPEG")
        if fact.path and known.get(extension, kind) != kind:
            wrong.append(Group((fact.name,), f"{kind} named {extension}"))
    found += finding("wrong_extension", wrong)
    side = float(np.median([np.sqrt(fact.size[0] * fact.size[1]) for fact in good])) if good else 0.0
    for kind, (test, most) in image_tests(good, side).items():
        some = [fact for fact in good if test(fact)]
        if len(some) <= most * len(good):
            found += finding(kind, map(sized, some), median=f"{side:,.0f} x {side:,.0f}")
    return found


def image_tests(good: Sequence[Facts], side: float) -> dict[str, tuple[Callable[[Facts], bool], float]]:
    """The tests for unusual images: {kind of finding: (test of one image, largest share)}. A finding is reported
    only if at most this share of the images has the property. side: side of the median image in pixels."""
    longest = max(LONG, 2 * float(np.median([ratio(fact) for fact in good] or [1])))
    largest = min(MOST_PIXELS, (APART * side) ** 2)
    return {
        "tiny": (lambda fact: min(fact.size) < max(LEAST_SIDE, side / APART), 1),
        "huge": (lambda fact: fact.size[0] * fact.size[1] > largest, 1),
        "long": (lambda fact: ratio(fact) > longest, 1),
        "plain": (lambda fact: fact.plain, 1),
        "transparent": (lambda fact: fact.header.transparent, RARE),
        "cmyk": (lambda fact: fact.header.mode in ("CMYK", "LAB"), NOT_ALL),
        "rotated": (lambda fact: fact.header.orientation in range(2, 9), RARE),
        "gray": (is_gray, RARE),
        "frames": (lambda fact: fact.header.frames > 1, 1),
        "exif": (lambda fact: fact.header.damaged_exif, 1),
    }


def ratio(fact: Facts) -> float:
    """Aspect ratio: long side / short side."""
    return max(fact.size) / min(fact.size)


def is_gray(fact: Facts) -> bool:
    """Whether all pixels of the thumbnail are gray. False for a single color, which is a separate finding."""
    colors = np.frombuffer(fact.thumb, np.uint8).reshape(-1, 3).astype(int)
    return not fact.plain and int(np.ptp(colors, axis=1).max()) <= GRAY


def sized(fact: Facts) -> Group:
    """A finding's entry for one image, with the note "WIDTH x HEIGHT" and its number of frames."""
    frames = f", {fact.header.frames:,} frames" if fact.header.frames > 1 else ""
    return Group((fact.name,), f"{fact.size[0]:,} x {fact.size[1]:,}{frames}")


def missing_classes(counts: dict[str, np.ndarray], classes: Sequence[str], noun: str = "image") -> list[Finding]:
    """Find classes without images in a split. counts: by split, int64 [K], number of images or pixels per class.
    noun: what is counted, in the singular."""
    found = []
    for split, count in counts.items():
        absent = [Group((), classes[index]) for index in np.flatnonzero(count == 0)]
        if not absent or not count.any():
            continue
        learned, where = split in ("train", ALL), "the data" if split == ALL else split
        what = f"{where} has no {noun} of {len(absent):,} of {len(classes):,} classes"
        why = (
            "a class without training data cannot be learned"
            if learned
            else "the accuracy on a class without data cannot be measured"
        )
        cure = f"add images of these classes to {where}"
        cure += "" if split == ALL else "; or use data without splits, of which a share of each class is held out"
        found.append(Finding("missing_class", "error" if learned else "warning", what, why, cure, tuple(absent)))
    return found


def imbalance(
    counts: dict[str, np.ndarray], classes: Sequence[str], most: float = IMBALANCE, noun: str = "images"
) -> list[Finding]:
    """Find rare classes in the training split: those with at most 1/`most` of the images (or pixels) of the largest
    class. counts: by split, int64 [K], number per class. noun: what is counted, in the plural."""
    count = counts.get("train", counts.get(ALL))
    if count is None or not count.any():
        return []
    order = np.argsort(count, kind="stable")
    largest = int(order[-1])
    rare = [int(index) for index in order if 0 < count[index] * most <= count[largest]]
    if not rare:
        return []
    have = "has" if len(rare) == 1 else "have"
    what = f"{len(rare):,} of {len(classes):,} classes {have} at most 1/{most:g} of the {noun} of the largest class"
    why = f"{classes[largest]!r} has {count[largest]:,}; a model can ignore the rare classes and still be accurate"
    cure = (
        "add images of the rare classes, or weight the classes: --loss.class_weights balanced; compare the scores per "
        "class"
    )
    others = [classes[index] for index in order if index not in rare]
    alike = {index: misspelled(classes[index], others) for index in rare}
    cure = "correct labels that are misspelled; " * any(alike.values()) + cure
    notes = {index: f"; is it {alike[index]!r}, misspelled?" if alike[index] else "" for index in rare}
    texts = [f"{classes[index]}: {counted(int(count[index]), noun[:-1])}{notes[index]}" for index in rare]
    groups = tuple(Group((), text) for text in texts)
    return [Finding("imbalance", "warning", what, why, cure, groups)]


def misspelled(name: str, others: Sequence[str]) -> str:
    """The one of `others` that a class name may be a misspelling of; "" if there is none. Names that differ in their
    digits are not."""
    known, own = {other.lower(): other for other in others}, name.lower()
    close = difflib.get_close_matches(own, known, 1, 0.8)
    numbered = close and close[0] != own and re.sub(r"\d", "", close[0]) == re.sub(r"\d", "", own)
    return known[close[0]] if close and not numbered else ""


def with_odd_pixels(facts: Sequence[Facts]) -> list[Facts]:
    """The facts, in which images of another kind than most have a reason why they cannot be used."""
    usual = most_common(facts)
    cure = "convert or remove these images; or convert all to 8-bit RGB: --data.channels rgb"
    return [
        fact._replace(why=f"it holds {fact.kind}, and most images hold {usual}", cure=cure)
        if odd(fact, usual)
        else fact
        for fact in facts
    ]


def most_common(facts: Sequence[Facts]) -> Kind | None:
    """The kind of pixels that most images hold."""
    kinds = Counter(fact.kind for fact in facts if fact.kind)
    return kinds.most_common(1)[0][0] if kinds else None


def odd(fact: Facts, usual: Kind | None) -> bool:
    """Whether an image holds another kind of pixels than most."""
    return fact.kind not in (None, usual)


def pixel_checks(facts: Sequence[Facts], one_kind: bool) -> list[Finding]:
    """Find images of another kind than most, unless all are converted (`one_kind` False), and images mostly without
    data."""
    usual, found = most_common(facts), []
    if one_kind:
        counts = Counter(fact.kind for fact in facts if fact.kind)
        texts = "; ".join(f"{counted(count, 'image')}: {kind}" for kind, count in counts.most_common())
        others = [Group((fact.name,), str(fact.kind)) for fact in facts if odd(fact, usual)]
        found += finding("other_pixels", others, counts=texts)
    empty = sorted((fact for fact in facts if fact.missing >= EMPTY), key=lambda fact: -fact.missing)
    return found + finding("no_data", [Group((fact.name,), f"{fact.missing:.0%} without data") for fact in empty])


def values_text(facts: Sequence[Facts]) -> str:
    """The range of the values of images that are not 8-bit RGB, the bits that it needs, and the share without data; ""
    if there are none."""
    rasters = [fact for fact in facts if fact.kind and not fact.kind.plain and any(fact.extent)]
    if not rasters:
        return ""
    low, high = min(fact.extent[0] for fact in rasters), max(fact.extent[1] for fact in rasters)
    missing = sum(fact.missing for fact in rasters) / len(rasters)
    whole = all(fact.kind and fact.kind.number == "uint16" for fact in rasters)
    bits = f" ({int(top_of(high)).bit_length()} bits are used)" if whole else ""
    return f"values {low:,.6g} to {high:,.6g}{bits}" + (f", {missing:.1%} without data" if missing else "")
