"""Palettes: which colors or ids may occur in masks, the class of each, and which of them are ignored."""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...config.schema import Data
from ...errors import SightlineError, listing
from ..sources.labels import check_distinct, nearest_hint

IGNORE = 255
"""Class index of pixels that are excluded from the loss and the metrics."""
OUTSIDE = 254
"""Value in lookup tables for a color or id that is not in the palette."""
MOST_NAMES = 254
"""Largest number of names in a palette: class indices must be below OUTSIDE."""
LARGEST_ID = 65535
GOLDEN = 0.618034
"""Hue step between generated display colors. Multiples of the golden ratio are spread evenly over the color circle."""

DARK = (0.22, 0.24, 0.28)
"""Display color of a class for everything else, so that the other classes stand out."""
BACKGROUND = ("background", "_background_")
"""Names of such a class, in lower case."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Coding:
    """The colors or ids in masks, by class name, before classes are merged or ignored.

    colors: color by name; None if masks contain `ids`, by name. ignored: names that are ignored. threshold: default of
    `data.threshold`. strays: further colors that are accepted, each with the name that it gets. shown: display colors
    of ids.
    """

    colors: dict[str, Color] | None = None
    ids: dict[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    threshold: int = 0
    strays: tuple[tuple[Color, str], ...] = ()
    shown: tuple[Color, ...] | None = None


LANDCOVER = {
    "urban": (0, 255, 255),
    "agriculture": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
    "unknown": (0, 0, 0),
}
CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
    "void": (0, 0, 0),
}
PALETTES = {
    # With the threshold, mixtures of rangeland and agriculture become red. Real masks have a few such pixels.
    "landcover": Coding(LANDCOVER, ignored=("unknown",), threshold=128, strays=(((255, 0, 0), "unknown"),)),
    "camvid": Coding(ids={name: i for i, name in enumerate(CAMVID)}, ignored=("void",), shown=tuple(CAMVID.values())),
    "binary": Coding({"background": (0, 0, 0), "foreground": (255, 255, 255)}),
}


@dataclass(frozen=True, eq=False)
class Palette:
    """The colors or ids that may occur in masks, and the class of each.

    names: one for each color or id. colors: one for each name; None if masks contain `ids`. classes: class names in
    index order, after merging, without ignored ones. index: uint8 [len(names)], class index of each name, or IGNORE.

    ignored: the names that are ignored. strays: further colors that are accepted, each with an index into `names`.
    shown: display colors of ids.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] | None
    classes: tuple[str, ...]
    index: np.ndarray
    ignored: tuple[str, ...]
    tolerance: int = 0
    threshold: int = 0
    ids: tuple[int, ...] = ()
    strays: tuple[tuple[Color, int], ...] = ()
    shown: tuple[Color, ...] | None = None

    @cached_property
    def table(self) -> np.ndarray:
        """Lookup table from every packed color, uint8 [2**24], or every id, uint8 [65537], to its class index, IGNORE
        or OUTSIDE.

        A color is packed as r + 256 * g + 65536 * b. The last entry of the table for ids is for all ids above 65535.
        """
        table = np.full(LARGEST_ID + 2 if self.colors is None else 1 << 24, OUTSIDE, np.uint8)
        codes = self.ids if self.colors is None else [packed(color) for color in self.colors]
        table[list(codes)] = self.index
        return table

    @property
    def gray(self) -> bool:
        """Whether all colors are gray. Only then a mask with one channel can be a mask of colors."""
        return self.colors is not None and all(r == g == b for r, g, b in self.colors)

    @cached_property
    def representatives(self) -> tuple[int, ...]:
        """For each class the index in `names` of its first name; then, if names are ignored, that of the first
        ignored one."""
        members = [*range(len(self.classes)), *([IGNORE] if self.ignored else [])]
        return tuple(int(np.flatnonzero(self.index == member)[0]) for member in members)


def packed(color: Color) -> int:
    """Pack a color into one number, r + 256 * g + 65536 * b."""
    return color[0] | color[1] << 8 | color[2] << 16


def palette_of(data: Data, class_list: tuple[str, ...] = ()) -> Palette:
    """Make the palette from the settings in `data`.

    class_list: class names in the order of their ids (classes.txt), used if `data.classes` is empty. Raises
    SightlineError with all faults in data.palette, data.colors, data.classes, data.merge and data.ignore.
    """
    coding = coding_of(data, data.classes or class_list)
    ids, ignore = dict(coding.ids), data.ignore
    if coding.colors is None:  # an id without a name may be ignored by its number, as 255 often is
        by_id = {str(value): name for name, value in ids.items() if str(value) not in ids}
        ignore = tuple(by_id.get(name, name) for name in ignore)
        numbers = [name for name in ignore if name not in ids and re.fullmatch(r"0|[1-9][0-9]{0,4}", name)]
        ids |= {name: int(name) for name in numbers if int(name) <= LARGEST_ID}
    names = tuple(ids if coding.colors is None else coding.colors)
    check_distinct(names, "the classes of the masks")
    become = [data.merge.get(name, name) for name in names]
    left_out = {*coding.ignored, *ignore}
    classes = tuple(dict.fromkeys(name for name in become if name not in left_out))
    faults = merge_faults(data.merge, ignore, names) + color_faults(data, coding)
    if len(names) > MOST_NAMES:
        faults.append(f"there are {len(names):,} names, and at most {MOST_NAMES} are possible")
    elif len(classes) < 2 and not faults:
        faults.append(f"number of classes after merging and ignoring: {len(classes)}; segmentation needs at least 2")
    if faults:
        where, cure = (
            "data.palette, data.colors, data.merge, data.ignore",
            f"correct these settings; the names in the palette are {', '.join(names[:20])}",
        )
        raise SightlineError("invalid palette settings", where=where, why="\n" + listing(faults), cure=cure)
    index = np.array([classes.index(name) if name in classes else IGNORE for name in become], np.uint8)
    index.setflags(write=False)
    return Palette(
        names=names,
        colors=None if coding.colors is None else tuple(coding.colors.values()),
        classes=classes,
        index=index,
        ignored=tuple(name for name, class_index in zip(names, index, strict=True) if class_index == IGNORE),
        tolerance=data.tolerance,
        threshold=data.threshold or (0 if data.tolerance else coding.threshold),
        ids=() if coding.colors is not None else tuple(ids.values()),
        strays=tuple((color, names.index(name)) for color, name in coding.strays),
        shown=coding.shown,
    )


def coding_of(data: Data, names: tuple[str, ...]) -> Coding:
    """The `Coding` by `data.palette` or `data.colors`; without these, `names` have the ids 0, 1, ... Raises
    SightlineError if all three are empty."""
    given = {"data.palette": data.palette, "data.colors": data.colors, "data.classes": data.classes}
    several = [key for key, value in given.items() if value]
    if len(several) > 1:
        cure = (
            "set only one of them (--data.palette '' removes the palette of a recipe); to rename or join classes: "
            "--data.merge"
        )
        raise SightlineError(f"{' and '.join(several)} all define the classes", where=several[0], cure=cure)
    if data.palette and data.palette not in PALETTES:
        what = f"there is no palette {data.palette!r}{nearest_hint(data.palette, list(PALETTES))}"
        cure = (
            f"use one of {', '.join(PALETTES)}, or define colors: --data.colors '{{car: [255, 0, 0], road: [0, 0, 0]}}'"
        )
        raise SightlineError(what, where="data.palette", cure=cure)
    if data.palette:
        return PALETTES[data.palette]
    if data.colors:
        return Coding(dict(data.colors))
    if not names:
        cure = (
            "for colors: --data.palette landcover, camvid or binary, or --data.colors '{car: [255, 0, 0], road: [0, "
            "0, 0]}'; "
            "for class ids: --data.classes '[road, car]', their names from id 0, or a file classes.txt with a name "
            "per line"
        )
        raise SightlineError(
            "it is not set which class each value in the masks stands for", where="data.palette", cure=cure
        )
    check_distinct(names, "data.classes")
    return Coding(ids={name: index for index, name in enumerate(names)})


def merge_faults(merge: dict[str, str], ignore: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """List the faults in `data.merge` and `data.ignore`."""
    known = (*names, *merge.values())
    faults = [f"merge: there is no class {n!r}{nearest_hint(n, names)}" for n in merge if n not in names]
    faults += [f"ignore: there is no class {n!r}{nearest_hint(n, known)}" for n in ignore if n not in known]
    faults += [f"{n!r} is both merged and ignored" for n in ignore if merge.get(n, n) != n]
    chains = [(name, target) for name, target in merge.items() if merge.get(target, target) != target]
    faults += [
        f"merge: {name!r} becomes {target!r}, which itself becomes {merge[target]!r}; name the last class directly"
        for name, target in chains
    ]
    return faults


def color_faults(data: Data, coding: Coding) -> list[str]:
    """List the faults in the colors, `data.tolerance` and `data.threshold`."""
    if coding.colors is None:
        used = {"data.tolerance": data.tolerance, "data.threshold": data.threshold}
        return [
            f"{key} is available for colors only, but these masks contain class ids"
            for key, value in used.items()
            if value
        ]
    faults, owner = [], {}
    if data.tolerance and data.threshold:
        faults.append("set only one of data.tolerance and data.threshold")
    for name, color in coding.colors.items():
        if owner.setdefault(color, name) != name:
            faults.append(f"{owner[color]!r} and {name!r} have the same color {color}")
        if data.threshold and not {*color} <= {0, 255}:
            faults.append(f"with data.threshold no pixel can be {name!r}: {color} has channels other than 0 and 255")
    return faults


def channels(colors: np.ndarray) -> np.ndarray:
    """Unpack colors uint32 [U] to int32 [U, 3]."""
    return np.stack([colors & 255, colors >> 8 & 255, colors >> 16], 1).astype(np.int32)


def match_colors(colors: np.ndarray, palette: Palette) -> np.ndarray:
    """The class of packed colors uint32 [U], by threshold, stray colors and tolerance: index, IGNORE or OUTSIDE."""
    if palette.threshold:
        high = channels(colors) >= palette.threshold
        colors = (high @ np.array([0xFF, 0xFF00, 0xFF0000])).astype(np.uint32)
    codes = np.take(palette.table, colors)
    for color, name in palette.strays:
        codes[colors == packed(color)] = palette.index[name]
    if palette.tolerance:
        nearest, distance = nearest_names(colors, palette)
        near = (codes == OUTSIDE) & (distance <= palette.tolerance)
        codes[near] = palette.index[nearest[near]]
    return codes


def nearest_names(colors: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """The nearest color of the palette for packed colors uint32 [U]: (its index in `names`, the distance), int64 [U]
    each. The distance is the largest difference of a channel. Ties are broken by the sum of squares, then by index."""
    unpacked = channels(colors)
    nearest, best = np.zeros(len(colors), np.int64), np.full(len(colors), 1 << 62)
    for index, color in enumerate(palette.colors or ()):
        apart = np.abs(unpacked - np.array(color, np.int32))
        key = (apart.max(1).astype(np.int64) << 20) + (apart**2).sum(1)
        closer = key < best
        nearest[closer], best[closer] = index, key[closer]
    return nearest, best >> 20


def display_colors(palette: Palette) -> np.ndarray:
    """A display color for each class, uint8 [K, 3]: that of the first name of the class, or a generated one."""
    known = palette.colors or palette.shown
    count = len(palette.classes)
    if known and max(palette.representatives[:count]) < len(known):
        return np.array([known[name] for name in palette.representatives[:count]], np.uint8)
    colors = [
        colorsys.hsv_to_rgb(GOLDEN * i % 1, (0.85, 0.5, 0.7)[i % 3], (0.95, 0.75, 0.55)[i // 3 % 3])
        if palette.classes[i].lower() not in BACKGROUND
        else DARK
        for i in range(count)
    ]
    return np.rint(255 * np.array(colors)).astype(np.uint8)


def empty_palette() -> Palette:
    """A palette without names, for images without masks."""
    return Palette((), None, (), np.zeros(0, np.uint8), ())


def to_dict(palette: Palette) -> dict[str, Any]:
    """Convert the palette to JSON values."""
    return asdict(palette) | {"index": palette.index.tolist()}


def from_dict(values: Mapping[str, Any], where: str = "palette") -> Palette:
    """Rebuild a palette from the JSON values of `to_dict`; raises SightlineError if they are invalid. where: where
    the values are stored, for the message."""
    try:
        names = tuple(map(str, values["names"]))
        index = np.array(values["index"], np.uint8)
        index.setflags(write=False)
        palette = Palette(
            names=names,
            colors=None if values["colors"] is None else tuple(map(color_of, values["colors"])),
            classes=tuple(map(str, values["classes"])),
            index=index,
            ignored=tuple(name for name, number in zip(names, index, strict=True) if number == IGNORE),
            tolerance=int(values["tolerance"]),
            threshold=int(values["threshold"]),
            ids=tuple(map(int, values["ids"])),
            strays=tuple((color_of(color), range(len(names))[name]) for color, name in values["strays"]),
            shown=None if values["shown"] is None else tuple(map(color_of, values["shown"])),
        )
        codes = palette.ids if palette.colors is None else palette.colors
        in_range = all(0 <= value <= LARGEST_ID for value in palette.ids)
        if not in_range or len(codes) != len(names) or {*index.tolist()} - {IGNORE} != {*range(len(palette.classes))}:
            raise ValueError("names, colors or ids, index and classes are inconsistent")
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        why, cure = f"{type(error).__name__}: {error}", "restore the file as Sightline wrote it"
        raise SightlineError("the palette in this file is invalid", where=where, why=why, cure=cure) from error
    return palette


def color_of(values: Any) -> Color:
    """Convert three numbers to a color; ValueError or OverflowError if they are not three values of 0..255."""
    red, green, blue = np.array(values, np.uint8).tolist()
    return red, green, blue
