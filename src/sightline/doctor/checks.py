"""Checks of single images and of classes: facts in, findings out."""

import os
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..config.schema import Data
from ..data.sources.splits import WHOLE
from .facts import Facts
from .findings import Finding, Group, number, singles

ENDINGS = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".jfif": ("JPEG", "MPO"),
    ".webp": ("WEBP",),
    ".bmp": ("BMP",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".gif": ("GIF",),
}
RARE = 0.2
"""Up to this share of the images, a property makes them unlike their neighbors; beyond it, it is how the data are."""
APART = 4.0
"""So many times smaller or larger than the median image, in each direction."""
LEAST_SIDE, MOST_PIXELS = 8, 50_000_000
LONG = 3.0
"""Long side over short side, from which on a picture is squashed beyond what the others are; twice the median too."""
GRAY = 4
"""In a gray picture, no color of the thumbnail has channels that differ by more."""
IMBALANCE = 10


def image_checks(facts: Sequence[Facts], data: Data) -> list[Finding]:
    """What is wrong with single images."""
    good = [fact for fact in facts if not fact.why]
    found = [*unreadable(facts), *endings(good)]
    if not good:
        return found
    return [*found, *sizes(good), *shapes(good, data), *plain(good), *unlike(good)]


def unreadable(facts: Sequence[Facts]) -> list[Finding]:
    """Files that are not an intact image: empty, truncated, of another format, too large, broken links."""
    bad = [fact for fact in facts if fact.why]
    if not bad:
        return []
    what = f"{len(bad):,} of {len(facts):,} images cannot be read"
    cure = "copy them again or remove them; --data.on_bad_image skip leaves out a few; --write-clean-list clean.csv"
    groups = singles([fact.name for fact in bad], [fact.why for fact in bad])
    return [Finding("unreadable", "error", what, "training stops", cure, groups)]


def endings(facts: Sequence[Facts]) -> list[Finding]:
    """Files of another format than their name says."""
    wrong = []
    for fact in facts:
        ending = os.path.splitext(fact.name)[1].lower()
        if fact.path and ending in ENDINGS and fact.header.format not in ENDINGS[ending]:
            wrong.append((fact.name, f"{fact.header.format} named {ending}"))
    if not wrong:
        return []
    what = number(len(wrong), "file", "has", "have") + " another format than the name says"
    why = "they are read by their content here; other tools may refuse them, or read lossy files as exact ones"
    cure = "rename them to what they are: mv NAME.jpg NAME.png"
    return [Finding("wrong_extension", "warning", what, why, cure, singles(*zip(*wrong, strict=True)))]


def sizes(facts: Sequence[Facts]) -> list[Finding]:
    """Images much smaller or larger than the median one, or than anything sensible."""
    middle = float(np.median([np.sqrt(fact.size[0] * fact.size[1]) for fact in facts]))
    tiny = [fact for fact in facts if min(fact.size) < max(LEAST_SIDE, middle / APART)]
    huge = [f for f in facts if f.size[0] * f.size[1] > min(MOST_PIXELS, (APART * middle) ** 2)]
    found = []
    median = f"the median image has about {middle:,.0f} x {middle:,.0f} pixels"
    if tiny:
        what = number(len(tiny), "image", "is tiny", "are tiny")
        why = f"{median}; enlarged, these are blurs that hold no detail"
        cure = "look at them: icons, previews and failed downloads go; find the originals of the others"
        found.append(Finding("tiny", "warning", what, why, cure, by_size(tiny)))
    if huge:
        what = number(len(huge), "image", "is huge", "are huge")
        why = f"{median}; these take long to decode, and what they show becomes far smaller than elsewhere"
        cure = "look at them: cut out what matters, or save them smaller"
        found.append(Finding("huge", "warning", what, why, cure, by_size(huge)))
    return found


def by_size(facts: Sequence[Facts]) -> tuple[Group, ...]:
    """A group for each image, with its size."""
    return singles([fact.name for fact in facts], [f"{fact.size[0]:,} x {fact.size[1]:,}" for fact in facts])


def shapes(facts: Sequence[Facts], data: Data) -> list[Finding]:
    """Images that are far longer than wide, or wider than long, than the others."""
    ratios = np.array([max(fact.size) / min(fact.size) for fact in facts])
    long = [facts[row] for row in np.flatnonzero(ratios > max(LONG, 2 * float(np.median(ratios))))]
    if not long:
        return []
    what = number(len(long), "image", "is", "are") + " far longer in one direction than the others"
    if data.fit == "crop":
        why, cure = "data.fit crop shows the model their middle only", "cut out what matters, or --data.fit squash"
    else:
        why, cure = "squashed to a square, they look like nothing else in the data", "cut them, or --data.fit crop"
    return [Finding("long", "warning", what, why, cure, by_size(long))]


def plain(facts: Sequence[Facts]) -> list[Finding]:
    """Images of one color."""
    blank = [fact for fact in facts if fact.plain]
    if not blank:
        return []
    what = number(len(blank), "image", "is of one color", "are of one color")
    cure = "remove them, unless the empty picture is what a class is about"
    return [Finding("plain", "warning", what, "there is nothing in them to learn from", cure, by_size(blank))]


Kind = tuple[str, Callable[[Facts], bool], str, str, str]
UNLIKE: tuple[Kind, ...] = (
    (
        "transparent",
        lambda fact: fact.header.transparent,
        "with transparency, which the others have not",
        "what is transparent becomes white, an edge that no other picture has",
        "put them on the background that the others have",
    ),
    (
        "deep",
        lambda fact: fact.header.deep,
        "of 16 bits or more a channel, and the others of 8",
        "they are scaled to 8 bits, dark where a sensor used few of them",
        "stretch and save them as the others were: 8-bit PNG or JPEG",
    ),
    (
        "cmyk",
        lambda fact: fact.header.mode == "CMYK",
        "in CMYK, made for print, and the others not",
        "they are converted without their color profile, and their colors differ from those of the others",
        "convert them to RGB with their profile in an image editor",
    ),
    (
        "rotated",
        lambda fact: fact.header.turn in range(2, 9),
        "stored turned or mirrored, with an EXIF mark that says so",
        "they are turned upright here; other tools, and masks drawn with these, may show them as they are stored",
        "save them upright: mogrify -auto-orient FILE",
    ),
)


def unlike(facts: Sequence[Facts]) -> list[Finding]:
    """Images that are of another kind than nearly all others."""
    found = []
    for kind, test, what, why, cure in UNLIKE:
        some = [fact for fact in facts if test(fact)]
        if some and len(some) <= RARE * len(facts):
            says = f"{len(some):,} of {len(facts):,} images: {what}"
            found.append(Finding(kind, "warning", says, why, cure, singles([fact.name for fact in some])))
    thumbs = np.frombuffer(b"".join(fact.thumb for fact in facts), np.uint8).reshape(len(facts), -1, 3)
    chroma = (thumbs.max(2) - thumbs.min(2)).max(1)
    gray = [facts[row] for row in np.flatnonzero(chroma <= GRAY) if not facts[row].plain]
    if gray and len(gray) <= RARE * len(facts):
        what = f"{len(gray):,} of {len(facts):,} images: gray, and the others with colors"
        why = "a model that leans on color meets something else in them"
        cure = "get them in color; or teach it to do without: --augment.grayscale 0.1"
        found.append(Finding("gray", "warning", what, why, cure, singles([fact.name for fact in gray])))
    moving = [fact for fact in facts if fact.header.frames > 1]
    if moving:
        what = number(len(moving), "image", "has several frames or pages", "have several frames or pages")
        notes = [f"{fact.header.frames:,} frames" for fact in moving]
        cure = "save the frame that counts as a picture of its own"
        groups = singles([fact.name for fact in moving], notes)
        found.append(Finding("frames", "warning", what, "only the first one is used", cure, groups))
    torn = [fact.name for fact in facts if fact.header.torn]
    if torn:
        what = number(len(torn), "image", "has", "have") + " a damaged EXIF block"
        why = "the mark that says how to turn them may be lost, and other tools may refuse them"
        cure = "see that they stand upright, then save them without it: mogrify -strip FILE"
        found.append(Finding("exif", "warning", what, why, cure, singles(torn)))
    return found


def class_checks(counts: dict[str, np.ndarray], classes: Sequence[str]) -> list[Finding]:
    """Classes that a split lacks, and classes with far fewer images than others. counts: by split, int64 [K]."""
    return [*missing_classes(counts, classes), *imbalance(counts, classes)]


def missing_classes(counts: dict[str, np.ndarray], classes: Sequence[str], noun: str = "image") -> list[Finding]:
    """Classes without an image in a split."""
    found = []
    for split, count in counts.items():
        absent = [classes[index] for index in np.flatnonzero(count == 0)]
        if not absent or not count.any():
            continue
        learned = split in ("train", WHOLE)
        place = "the data" if split == WHOLE else split
        what = f"{place} has no {noun} of {len(absent):,} of {len(classes):,} classes"
        why = "they cannot be learned" if learned else "nothing is known of how well they are recognized"
        cure = f"add images of them to {place}" + (
            "" if split == WHOLE else "; or give the data without splits, of which a share of each class is held out"
        )
        severity = "error" if learned else "warning"
        found.append(Finding("missing_class", severity, what, why, cure, tuple(Group((), name) for name in absent)))
    return found


def imbalance(
    counts: dict[str, np.ndarray], classes: Sequence[str], most: float = IMBALANCE, noun: str = "images"
) -> list[Finding]:
    """Classes of the training split with far fewer images than the largest has."""
    count = counts.get("train", counts.get(WHOLE))
    if count is None or not count.any():
        return []
    order = np.argsort(count, kind="stable")
    largest = int(order[-1])
    rare = [int(index) for index in order if 0 < count[index] * most <= count[largest]]
    if not rare:
        return []
    what = f"{len(rare):,} of {len(classes):,} classes: 1/{most:g} or less of the {noun} of the largest"
    why = f"{classes[largest]!r} has {count[largest]:,}; a model can neglect the rare ones and still have few mistakes"
    cure = "add images of them, or weigh them: --loss.class_weights balanced; judge by the classes' own numbers"
    groups = tuple(Group((), f"{classes[index]}: {count[index]:,} {noun}") for index in rare)
    return [Finding("imbalance", "warning", what, why, cure, groups)]


def label_counts(facts: Sequence[Facts], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Images of each class, int64 [K], by split, of the splits that have labels."""
    pairs = Counter((fact.split, fact.label) for fact in facts if fact.label >= 0)
    splits = list(dict.fromkeys(fact.split for fact in facts if fact.label >= 0))
    return {split: np.array([pairs[split, index] for index in range(len(classes))]) for split in splits}
