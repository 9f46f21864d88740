"""What the doctor understood of a data set: a few lines that are printed first, and pictures with their labels."""

import contextlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
from PIL import Image

from ..config.schema import Data
from ..data.decode.images import Square, planes, preview
from ..data.decode.kinds import Raster
from ..data.decode.palettes import Palette, display_colors
from ..data.label_arrays import are_numbers, are_sets, class_counts, label_texts, strata
from ..data.sources.row_matching import table_above
from ..data.sources.splits import ALL
from ..data.types import Items
from ..errors import SightlineError, counted
from ..insight.mask_figures import overlay
from ..runs.sampling import evenly_spread
from ..stats.groups import found_by_name, name_parts, stated_groups
from .checks import values_text
from .facts import Facts
from .findings import Picture
from .opened import OpenedData

NAMED = 12
"""Of more classes than this, the ones with the most and the fewest images are printed."""
PICTURES = 10
"""Number of pictures on the page that show how a network gets the images."""
NO_LABELS = "no labels"
MODES = {
    "RGB": "color",
    "L": "gray",
    "1": "black and white",
    "P": "palette",
    "RGBA": "color with transparency",
    "LA": "gray with transparency",
    "PA": "palette with transparency",
    "CMYK": "CMYK",
    "LAB": "Lab",
}


def understood(
    opened: OpenedData, facts: Sequence[Facts], pixels: Mapping[str, np.ndarray], data: Data
) -> dict[str, str]:
    """What was understood of the data, as texts by topic. pixels: of each class of masks, int64 [K], by
    split."""
    good = [fact for fact in facts if not fact.why]
    counts = {split: len(items.names) for split, items in opened.splits.items()}
    lines = {
        "layout": "; ".join(opened.notes),
        "images": images_text(counts, len(facts) - len(good)),
        "classes": pixels_text(pixels, opened.classes) if pixels else classes_text(opened.splits, opened.classes),
        "sizes": sizes_text(good),
        "pixels": modes_text(good),
        "palette": palette_text(opened.palette) if opened.palette else "",
        "groups": groups_text(opened.splits, good, data),
    }
    if (lines["classes"] == NO_LABELS) and (table := table_above(opened.root, data)):
        lines["classes"] += f", but there is a table above this folder: sightline doctor {shlex.quote(table)}"
    return {topic: text for topic, text in lines.items() if text}


def images_text(counts: Mapping[str, int], unreadable: int) -> str:
    """The number of images of each split."""
    total = counted(sum(counts.values()), "image")
    parts = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    text = f"{total}, not split" if ALL in counts else f"{total}: {parts}"
    return f"{text}; {unreadable:,} cannot be read" if unreadable else text


def classes_text(splits: Mapping[str, Items], classes: Sequence[str]) -> str:
    """The classes with their numbers of images, or the range of the numbers that are the labels."""
    labels = [items.labels for items in splits.values() if items.labels is not None]
    if not labels:
        return NO_LABELS
    every = np.concatenate(labels)
    if are_numbers(every):
        low, middle, high = np.quantile(every, (0, 0.5, 1))
        return f"each image has a number, {low:g} to {high:g}, median {middle:g}"
    counts = class_counts(every, len(classes))
    order = (
        sorted(range(len(classes)), key=lambda index: -counts[index]) if len(classes) > NAMED else range(len(classes))
    )
    named = [f"{classes[index]} {counts[index]:,}" for index in order]
    if len(named) > NAMED:
        named = [*named[: NAMED // 2], f"... {len(named) - NAMED:,} more ...", *named[-NAMED // 2 :]]
    several = f"; {every.sum(1).mean():.1f} labels per image" if are_sets(every) else ""
    return f"{len(classes):,}: {', '.join(named)}{several}"


def pixels_text(pixels: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    """The classes of masks with their shares of the labeled pixels of all splits."""
    total = sum(pixels.values(), np.zeros(len(classes), np.int64))
    shares = total / max(1, total.sum())
    return f"{len(classes):,}: " + ", ".join(f"{name} {share:.1%}" for name, share in zip(classes, shares, strict=True))


def sizes_text(facts: Sequence[Facts]) -> str:
    """The sizes of the images, width x height."""
    sizes = Counter(fact.size for fact in facts)
    if not sizes:
        return ""
    common, share = sizes.most_common(1)[0][0], sizes.most_common(1)[0][1] / len(facts)
    if len(sizes) == 1:
        return f"all {size_text(common)}"
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    ends = f"{size_text(ordered[0])} to {size_text(ordered[-1])}"
    return f"{len(sizes):,} sizes, {ends}; {share:.0%} have {size_text(common)}"


def size_text(size: tuple[int, int]) -> str:
    """WIDTH x HEIGHT."""
    return f"{size[0]:,} x {size[1]:,}"


def modes_text(facts: Sequence[Facts]) -> str:
    """What the files hold: color modes or channels, bits, values and formats, with numbers of files if there are
    several."""
    kinds = Counter(
        str(fact.kind)
        if fact.kind and not fact.kind.plain
        else f"{MODES.get(fact.header.mode, fact.header.mode)}, 8 bits"
        for fact in facts
    )
    formats = Counter(fact.header.format for fact in facts if fact.header.format)
    return "; ".join(filter(None, (tally_text(kinds), values_text(facts), tally_text(formats))))


def tally_text(tally: Counter[str]) -> str:
    """The most frequent entries first; with their numbers if there are several."""
    if len(tally) == 1:
        return next(iter(tally))
    return ", ".join(f"{count:,} {name}" for name, count in tally.most_common())


def palette_text(palette: Palette) -> str:
    """The names of a palette with their colors or ids, and those that are ignored."""
    codes = (
        palette.ids if palette.colors is None else ["#{:02x}{:02x}{:02x}".format(*color) for color in palette.colors]
    )
    named = ", ".join(f"{name} {code}" for name, code in zip(palette.names, codes, strict=True))
    return named + (f"; ignored: {', '.join(palette.ignored)}" if palette.ignored else "")


def groups_text(splits: Mapping[str, Items], facts: Sequence[Facts], data: Data) -> str:
    """The groups of the images of each split (films, scenes and the like), as intervals of scores will count them."""
    parts = []
    for split, items in splits.items():
        if data.group or items.groups is not None:
            found = stated_groups(items.names, items.groups, data)
        else:
            own = [fact for fact in facts if fact.split == split and fact.thumb]
            if not own:  # none can be read
                continue
            small = np.frombuffer(b"".join(fact.thumb for fact in own), np.uint8).reshape(len(own), -1)
            names = [name_parts(fact.name) for fact in own]
            found = found_by_name(names, small.astype(np.float32), [fact.label for fact in own])
        parts += [f"{found.count:,} in {split} ({found.by})"] if found else []
    return ", ".join(parts) or "none by file names; near copies, if frequent, count as one image"


def pictures(opened: OpenedData, data: Data) -> list[Picture]:
    """A few images as a network gets them: square, of at most `data.size`, or with their masks drawn over them. They
    are spread over the classes; images that cannot be read are left out."""
    split = next((name for name in ("train", ALL) if name in opened.splits), next(iter(opened.splits)))
    items = opened.masked.get(split, opened.splits[split])
    found = []
    for index in spread(items.labels, len(items.names)):
        with contextlib.suppress(SightlineError):  # a finding reports it
            found.append(picture(items, index, opened, data))
    return [one for one in found if one]


def spread(labels: np.ndarray | None, count: int) -> list[int]:
    """Up to PICTURES indices of images, spread evenly over the classes, or over all images without classes."""
    of_class = np.zeros(count, np.int64) if labels is None else strata(labels)
    classes = np.unique(of_class)
    present = classes[evenly_spread(len(classes), PICTURES)]
    rows = [np.flatnonzero(of_class == one) for one in present]
    turns = zip_longest(*(own[evenly_spread(len(own), -(-PICTURES // len(present)))] for own in rows))
    return [int(row) for turn in turns for row in turn if row is not None][:PICTURES]


def picture(items: Items, index: int, opened: OpenedData, data: Data) -> Picture | None:
    """One image as a network gets it; None if its mask has another size, which is a finding. Raises SightlineError if
    the image or its mask cannot be read."""
    name, image = items.names[index], items.read(index, 0 if opened.palette else data.size)
    if items.read_mask is not None and opened.palette:
        mask = items.read_mask(index)
        if mask.shape != image.size[::-1]:
            return None
        drawn = overlay(planes(preview(image, opened.channels)), mask, display_colors(opened.palette))
        return Picture(Image.fromarray(drawn), name, "")
    pixels = Square.of_settings(data, min(data.size, *image.size)).of(image)
    label = "" if items.labels is None else label_texts(items.labels[[index]], opened.classes)[0] or "no label"
    return Picture(preview(Raster(pixels), opened.channels), name, label)
