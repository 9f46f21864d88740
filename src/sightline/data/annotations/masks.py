"""Class masks of images from annotation files. They are drawn when they are read, and stored in the cache."""

import os
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..decode.masks import MaskFacts, image_size
from ..decode.palettes import BACKGROUND, IGNORE, Palette, palette_of
from ..decode.rasters import Reading
from ..decode.survey import survey
from ..sources.labels import nearest_hint
from ..types import Items, Source
from .reading import Annotations, Found
from .shapes import Shape, rasterize

SIZES = (
    "annotate this file itself, or correct width and height. Annotations are read on the image as programs show it, "
    "rotated by its EXIF orientation; if they were made on the stored pixels: exiftool -Orientation= FILE"
)


def open_masks(
    root: str, found: Annotations, data: Data, known: Palette | None, names: tuple[str, ...]
) -> tuple[Source, Palette]:
    """The annotated images with masks of their shapes, by split, and the palette of the classes.

    known: the palette of a finished run. names: class names that the user has declared, or (). Pixels in no shape have
    the class `background`, which is added as the first class unless there is one. Images without any shape may not be
    annotated yet: they are left out, unless the file or the user declares a class `background`. Raises SightlineError
    if there are no shapes, or shapes of unknown classes.
    """
    every = [pair for members in found.splits.values() for pair in members]
    if not any(image.shapes for _, image in every):
        empty = not any(image.objects for _, image in every)
        why = "no image has an annotation" if empty else "the images have labels or boxes at most"
        cure = "draw polygons or masks, or use a recipe for classification: sightline recipes"
        if empty:
            cure = "check that the folder has the text files or keys with the annotations, such as labels/a.txt of YOLO"
        raise SightlineError("the annotations have no areas, which segmentation needs", where=root, why=why, cure=cure)
    labels = {shape.label for _, image in every for shape in image.shapes}
    declared = names or (*found.classes, *sorted(labels.difference(found.classes)))
    empty_class = next((name for name in declared if name.lower() in BACKGROUND), "")
    own = declared if empty_class else (BACKGROUND[0], *declared)
    settings = data if data.palette or data.colors else data.model_copy(update={"classes": ()})
    palette = known or palette_of(settings, own)
    if unknown := [f"{each!r}{nearest_hint(each, palette.names)}" for each in sorted(labels.difference(palette.names))]:
        what = f"labels of the annotations that are not among the {len(palette.names)} classes: {len(unknown)}"
        cure = (
            "name all classes in --data.classes or classes.txt; or, for those of the annotations, remove both and set "
        )
        raise SightlineError(what, where=root, why="\n" + listing(unknown), cure=cure + "--data.palette ''")
    filler = next((name for name in palette.names if name.lower() in BACKGROUND), "")
    notes = [f"pixels in no shape: {repr(filler) if filler else 'ignored'}"]
    if bare := [file.name for file, image in every if not image.shapes]:
        left_out = f"left out: {some_of(bare)}; if they are background: --data.classes '[{', '.join(own)}]'"
        kept = f"read as {empty_class!r}: {some_of(bare)}"
        notes.append(f"{counted(len(bare), 'image')} without a shape {kept if empty_class else left_out}")
    kept = {split: [each for each in part if each[1].shapes or empty_class] for split, part in found.splits.items()}
    reading, said = survey(root, {file.name: file.stamp for part in kept.values() for file, _ in part}, data)
    splits = {split: items_of(root, part, palette, data, filler, reading) for split, part in kept.items() if part}
    return Source(root, found.format, palette.classes, splits, (*found.notes, *notes, *said), reading.channels), palette


def items_of(root: str, members: Sequence[Found], palette: Palette, data: Data, filler: str, reading: Reading) -> Items:
    """The `Items` of a split whose masks are drawn from shapes. filler: the class of pixels in no shape, or ""."""
    values = dict(zip(palette.names, palette.index.tolist(), strict=True))
    names = tuple(file.name for file, _ in members)
    images, smaller = [image for _, image in members], data.overlap == "smaller"

    def read(index: int, facts: MaskFacts | None = None) -> np.ndarray:
        height, width = image_size(os.path.join(root, names[index]), data.max_pixels)
        image = images[index]
        if image.size and image.size != (width, height):
            given = f"{image.size[0]} x {image.size[1]}"
            what = f"the image has {width} x {height} pixels, but {given} in the annotations"
            raise SightlineError(what, where=image.where, cure=SIZES)
        scale = (width, height) if image.relative else (1, 1)
        shapes = [shape._replace(polygons=tuple(each * scale for each in shape.polygons)) for shape in image.shapes]
        mask, overlap = rasterize(shapes, values, (height, width), values.get(filler, IGNORE), smaller)
        if facts is not None:
            facts.overlap += overlap
        return mask

    return Items(
        names=names,
        labels=None,
        read=lambda index, side=0: reading.read(os.path.join(root, names[index]), data.max_pixels, side),
        stamps=tuple(f"{file.stamp} {digest_of(image.shapes)} {data.overlap}" for file, image in members),
        read_mask=read,
        mask_names=tuple(image.where for image in images),
    )


def digest_of(shapes: Sequence[Shape]) -> str:
    """A text that changes when a shape changes."""
    runs = [each.runs and (each.runs.counts.tolist(), each.runs[1:]) for each in shapes]
    values = [(each.label, [part.tolist() for part in each.polygons]) for each in shapes]
    return sha256(repr((values, runs)).encode()).hexdigest()[:16]
