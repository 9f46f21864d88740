"""What the values of a mask mean: its colors or ids, the classes that they become, and what counts for nothing."""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...config.schema import Data
from ...errors import SightlineError, listing
from ..sources.labels import check_distinct, nearest_hint

IGNORE = 255
"""The class index of pixels that count neither in the loss nor in the metrics."""
OUTSIDE = 254
"""In lookup tables: a value that the palette does not know."""
MOST_NAMES = 254
"""So that every class index lies below OUTSIDE."""
LARGEST_ID = 65535
GOLDEN = 0.618034
"""Share of the hue circle between two generated colors; multiples of the golden ratio never come close to repeating."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Coding:
    """How masks are written, before anything is merged or ignored.

    strays: further colors and the name that each stands for. shown: display colors where masks hold ids.
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
    # Thresholding makes red of pixels between rangeland and agriculture; real masks have a few, and no class is red.
    "landcover": Coding(LANDCOVER, ignored=("unknown",), threshold=128, strays=(((255, 0, 0), "unknown"),)),
    "camvid": Coding(
        ids={name: place for place, name in enumerate(CAMVID)}, ignored=("void",), shown=tuple(CAMVID.values())
    ),
    "binary": Coding({"background": (0, 0, 0), "foreground": (255, 255, 255)}),
}


@dataclass(frozen=True, eq=False)
class Palette:
    """What a mask may hold and what becomes of it.

    names: everything that has a color or an id. colors: of each name, or None where masks hold `ids`.
    classes: in index order, after merging and without what is ignored. index: uint8 [len(names)], class index or
    IGNORE of each name. ignored: the names of index IGNORE. strays: further colors, each with a place in names.
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
        """Class index, IGNORE or OUTSIDE of every packed color uint8 [2**24], or of every id uint8 [65537].

        A color is packed as r + 256 * g + 65536 * b. The last place of the ids stands for all that are out of range.
        """
        table = np.full(LARGEST_ID + 2 if self.colors is None else 1 << 24, OUTSIDE, np.uint8)
        codes = self.ids if self.colors is None else [packed(color) for color in self.colors]
        table[list(codes)] = self.index
        return table

    @property
    def gray(self) -> bool:
        """Whether all colors are grays, so that masks may have one channel."""
        return self.colors is not None and all(r == g == b for r, g, b in self.colors)

    @cached_property
    def spokesmen(self) -> tuple[int, ...]:
        """Of each class the first of its names, as a place in names; then that of the first ignored name, if any."""
        members = [*range(len(self.classes)), *([IGNORE] if self.ignored else [])]
        return tuple(int(np.flatnonzero(self.index == member)[0]) for member in members)


def packed(color: Color) -> int:
    """A color as one number."""
    return color[0] | color[1] << 8 | color[2] << 16


def palette_of(data: Data, class_list: tuple[str, ...] = ()) -> Palette:
    """The palette that `data` describes. class_list: names by id (classes.txt), where `data.classes` has none.

    Raises SightlineError that lists everything wrong with palette, colors, classes, merge, ignore and the rest.
    """
    coding, faults = coding_of(data, data.classes or class_list), []
    ids, ignore = dict(coding.ids), data.ignore
    if coding.colors is None:  # an id may be ignored by its number, and needs no name: 255 is often void
        by_id = {str(value): name for name, value in ids.items() if str(value) not in ids}
        ignore = tuple(by_id.get(name, name) for name in ignore)
        numbers = [name for name in ignore if name not in ids and re.fullmatch(r"0|[1-9][0-9]{0,4}", name)]
        ids |= {name: int(name) for name in numbers if int(name) <= LARGEST_ID}
    names = tuple(ids if coding.colors is None else coding.colors)
    check_distinct(names, "the masks' classes")
    faults += merge_faults(data.merge, ignore, names) + color_faults(data, coding)
    become = [data.merge.get(name, name) for name in names]
    left_out = {*coding.ignored, *ignore}
    classes = tuple(dict.fromkeys(name for name in become if name not in left_out))
    if len(names) > MOST_NAMES:
        faults.append(f"{len(names):,} names; a mask can have {MOST_NAMES}")
    elif len(classes) < 2 and not faults:
        faults.append(f"{len(classes)} class is left after merging and ignoring; a segmenter needs 2")
    if faults:
        raise SightlineError(
            "the palette is wrong",
            where="data.palette, data.colors, data.merge, data.ignore",
            why="\n" + listing(faults),
            cure=f"correct these settings; the masks' names are {', '.join(names[:20])}",
        )
    index = np.array([classes.index(name) if name in classes else IGNORE for name in become], np.uint8)
    index.setflags(write=False)
    return Palette(
        names=names,
        colors=None if coding.colors is None else tuple(coding.colors.values()),
        classes=classes,
        index=index,
        ignored=tuple(name for name, place in zip(names, index, strict=True) if place == IGNORE),
        tolerance=data.tolerance,
        threshold=data.threshold or (0 if data.tolerance else coding.threshold),
        ids=() if coding.colors is not None else tuple(ids.values()),
        strays=tuple((color, names.index(name)) for color, name in coding.strays),
        shown=coding.shown,
    )


def coding_of(data: Data, names: tuple[str, ...]) -> Coding:
    """The coding that `data` names, gives or, with neither, takes to be ids of `names`; SightlineError for none."""
    if data.palette and (data.colors or data.classes):
        other = "data.colors" if data.colors else "data.classes"
        raise SightlineError(
            f"data.palette and {other} both name the classes",
            where="data.palette",
            cure=f"leave one out (--data.palette '' takes back a recipe's palette); to rename or join classes of the "
            f"palette {data.palette!r}: --data.merge",
        )
    if data.colors and data.classes and data.classes != tuple(data.colors):
        raise SightlineError(
            "data.colors and data.classes name different classes",
            where="data.colors",
            cure="leave out data.classes: the order of the colors is that of the classes",
        )
    if data.palette and data.palette not in PALETTES:
        raise SightlineError(
            f"there is no palette {data.palette!r}{nearest_hint(data.palette, list(PALETTES))}",
            where="data.palette",
            cure=f"one of {', '.join(PALETTES)}, or your own: --data.colors '{{car: [255, 0, 0], road: [0, 0, 0]}}'",
        )
    if data.palette:
        return PALETTES[data.palette]
    if data.colors:
        return Coding(dict(data.colors))
    if not names:
        raise SightlineError(
            "nothing says what the values in the masks mean",
            where="data.palette",
            cure="--data.palette landcover, camvid or binary; --data.colors for colors of your own; or for masks of "
            "class ids their names in order: --data.classes '[road, car]' or a file classes.txt, one name a line",
        )
    check_distinct(names, "data.classes")
    return Coding(ids={name: place for place, name in enumerate(names)})


def merge_faults(merge: dict[str, str], ignore: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """What is wrong with `data.merge` and `data.ignore`."""
    faults = [f"merge: there is no class {n!r}{nearest_hint(n, names)}" for n in merge if n not in names]
    known = (*names, *merge.values())
    faults += [f"ignore: there is no class {n!r}{nearest_hint(n, known)}" for n in ignore if n not in known]
    faults += [f"{n!r} is both merged and ignored" for n in ignore if merge.get(n, n) != n]
    for name, target in merge.items():
        if merge.get(target, target) != target:
            faults.append(f"merge: {name!r} becomes {target!r}, which becomes {merge[target]!r}; name the last")
        own = [other for other, wanted in merge.items() if wanted == target]
        hint = nearest_hint(target, [other for other in names if other not in own])
        if target not in names and hint and not nearest_hint(target, own):
            faults.append(f"merge: {name!r} becomes {target!r}, a new class much like an old one{hint}")
    return faults


def color_faults(data: Data, coding: Coding) -> list[str]:
    """What is wrong with the colors and with how they are to be matched."""
    if coding.colors is None:
        given = [f"data.{key} is for colors, and these masks hold ids" for key in ("tolerance", "threshold")]
        return [text for text, value in zip(given, (data.tolerance, data.threshold), strict=True) if value]
    faults, owner = [], {}
    if data.tolerance and data.threshold:
        faults.append("data.tolerance and data.threshold: one of them; a threshold leaves nothing to tolerate")
    for name, color in coding.colors.items():
        if owner.setdefault(color, name) != name:
            faults.append(f"{owner[color]!r} and {name!r} have the same color {color}")
        if data.threshold and not {*color} <= {0, 255}:
            faults.append(f"with data.threshold no pixel can be {name!r}: {color} is not made of 0 and 255")
    return faults


def channels(colors: np.ndarray) -> np.ndarray:
    """Packed colors uint32 [U] as int32 [U, 3]."""
    return np.stack([colors & 255, colors >> 8 & 255, colors >> 16], 1).astype(np.int32)


def resolve(colors: np.ndarray, palette: Palette) -> np.ndarray:
    """Class index, IGNORE or OUTSIDE, uint8 [U], of packed colors uint32 [U] that are not exactly in the palette."""
    if palette.threshold:
        high = channels(colors) >= palette.threshold
        colors = (high @ np.array([0xFF, 0xFF00, 0xFF0000])).astype(np.uint32)
    codes = np.take(palette.table, colors)
    for color, place in palette.strays:
        codes[colors == packed(color)] = palette.index[place]
    if palette.tolerance:
        nearest, distance = nearest_names(colors, palette)
        near = (codes == OUTSIDE) & (distance <= palette.tolerance)
        codes[near] = palette.index[nearest[near]]
    return codes


def nearest_names(colors: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """(place in names, largest difference of a channel), int64 [U] each, of the nearest color to each packed one.

    Of equally near ones that with the smaller sum of squares, then the earlier name.
    """
    wanted = channels(colors)
    place, best = np.zeros(len(colors), np.int64), np.full(len(colors), 1 << 62)
    for index, color in enumerate(palette.colors or ()):
        apart = np.abs(wanted - np.array(color, np.int32))
        key = (apart.max(1).astype(np.int64) << 20) + (apart**2).sum(1)
        closer = key < best
        place[closer], best[closer] = index, key[closer]
    return place, best >> 20


def display_colors(palette: Palette) -> np.ndarray:
    """A color for each class, uint8 [K, 3]: that of its first name, or generated ones where masks hold ids."""
    known = palette.colors or palette.shown
    count = len(palette.classes)
    if known and max(palette.spokesmen[:count]) < len(known):
        return np.array([known[place] for place in palette.spokesmen[:count]], np.uint8)
    colors = [
        colorsys.hsv_to_rgb(GOLDEN * i % 1, (0.85, 0.5, 0.7)[i % 3], (0.95, 0.75, 0.55)[i // 3 % 3])
        for i in range(count)
    ]
    return np.rint(255 * np.array(colors)).astype(np.uint8)


def empty_palette() -> Palette:
    """A palette for images without masks: nothing has a name."""
    return Palette((), None, (), np.zeros(0, np.uint8), ())


def to_dict(palette: Palette) -> dict[str, Any]:
    """The palette as plain values, for config.json."""
    return {
        "names": list(palette.names),
        "colors": None if palette.colors is None else [list(color) for color in palette.colors],
        "classes": list(palette.classes),
        "index": palette.index.tolist(),
        "ignored": list(palette.ignored),
        "tolerance": palette.tolerance,
        "threshold": palette.threshold,
        "ids": list(palette.ids),
        "strays": [[list(color), place] for color, place in palette.strays],
        "shown": None if palette.shown is None else [list(color) for color in palette.shown],
    }


def from_dict(values: Mapping[str, Any], where: str = "palette") -> Palette:
    """The palette that `to_dict` wrote; SightlineError where the values are not one."""
    try:
        palette = Palette(
            names=tuple(map(str, values["names"])),
            colors=None if values["colors"] is None else tuple(map(color_of, values["colors"])),
            classes=tuple(map(str, values["classes"])),
            index=np.array(values["index"], np.uint8),
            ignored=tuple(map(str, values["ignored"])),
            tolerance=int(values["tolerance"]),
            threshold=int(values["threshold"]),
            ids=tuple(map(int, values["ids"])),
            strays=tuple((color_of(color), int(place)) for color, place in values["strays"]),
            shown=None if values["shown"] is None else tuple(map(color_of, values["shown"])),
        )
        check_whole(palette)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = f"{type(error).__name__}: {error}"
        cure = "use the file as Sightline wrote it"
        raise SightlineError("this is not a palette", where=where, why=why, cure=cure) from error
    palette.index.setflags(write=False)
    return palette


def color_of(values: Any) -> Color:
    """Three channels of 0..255; ValueError for anything else."""
    red, green, blue = map(int, values)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{values} is not a color")
    return red, green, blue


def check_whole(palette: Palette) -> None:
    """ValueError where the parts of a palette do not fit together."""
    count = len(palette.names)
    codes = palette.ids if palette.colors is None else palette.colors
    used = sorted({*palette.index.tolist()} - {IGNORE})
    ignored = tuple(name for name, place in zip(palette.names, palette.index, strict=True) if place == IGNORE)
    whole = len(codes) == count <= MOST_NAMES and used == [*range(len(palette.classes))]
    if not whole or ignored != palette.ignored:
        raise ValueError("names, codes, index, classes and ignored do not fit together")
    if not all(0 <= value <= LARGEST_ID for value in palette.ids):
        raise ValueError("an id is out of range")
    if not all(0 <= place < count for _, place in palette.strays):
        raise ValueError("a stray color stands for no name")
