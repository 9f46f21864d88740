"""COCO: one JSON file with images, categories, and annotations that are polygons or run lengths.

Boxes (`bbox`) are not read. A crowd region is an area of its category, as any other annotation.
"""

from collections import Counter
from typing import Any

import numpy as np

from .checks import Record, Side, numbers, parsed, polygon_shape, runs_shape
from .shapes import AnnotatedImage, FileContent, Runs, Shape

TITLE = "COCO"


class CocoImage(Record):
    id: int | str
    file_name: str
    width: Side
    height: Side


class CocoCategory(Record):
    id: int | str
    name: str


class CocoRuns(Record):
    size: list[int]
    counts: str | list[int]


class CocoAnnotation(Record):
    image_id: int | str
    category_id: int | str
    segmentation: list[Any] | CocoRuns | None = None


class Coco(Record):
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read a COCO file; name: its path relative to the data, for messages."""
    data = parsed(Coco, path, name, faults)
    if data is None:
        return FileContent()
    names, content = {each.id: each.name for each in data.categories}, FileContent()
    images = {
        each.id: AnnotatedImage(each.file_name, f"{name}: images[{index}]", size=(each.width, each.height))
        for index, each in enumerate(data.images)
    }
    if not len(data.categories) == len(names) == len({*names.values()}) or len(data.images) != len(images):
        every = Counter([("image id", each.id) for each in data.images])
        every.update(pair for each in data.categories for pair in (("category id", each.id), ("category", each.name)))
        faults += [f"{name}: the {key} {value!r} appears twice" for (key, value), number in every.items() if number > 1]
    for index, item in enumerate(data.annotations):
        where = f"{name}: annotations[{index}]"
        if item.image_id not in images or item.category_id not in names:
            wrong = "image_id" if item.image_id not in images else "category_id"
            faults.append(f"{where}.{wrong}: no image or category has the id {getattr(item, wrong)!r}")
            continue
        image, label = images[item.image_id], names[item.category_id]
        area = area_of(item, label, image.size or (0, 0), f"{where}.segmentation", faults)
        shapes = (*image.shapes, *area)
        images[item.image_id] = image._replace(objects=(*image.objects, label), shapes=shapes)
        content.unused["box or annotation without an area"] += not area
    content.classes, content.images = tuple(names.values()), [*images.values()]
    return content


def area_of(item: CocoAnnotation, label: str, size: tuple[int, int], where: str, faults: list[str]) -> list[Shape]:
    """The area of an annotation; [] if it has only a box, or after adding a fault."""
    coded = item.segmentation
    if isinstance(coded, CocoRuns):
        if coded.size != list(size[::-1]):
            faults.append(f"{where}.size is {coded.size}, but the image has [height, width] {list(size[::-1])}")
            return []
        counts = decompressed(coded.counts) if isinstance(coded.counts, str) else coded.counts
        return runs_shape(label, Runs(np.array(counts, np.int64), (0, 0, *size), True), size, f"{where}.counts", faults)
    parts = [numbers(part, "iuf", f"{where}[{index}]", faults) for index, part in enumerate(coded or ())]
    if odd := [index for index, part in enumerate(parts) if part.ndim > 1 or part.size % 2]:
        faults.append(f"{where}[{odd[0]}] has {parts[odd[0]].size} numbers, which are not pairs of x and y")
        return []
    return polygon_shape(label, [part.reshape(-1, 2) for part in parts], size, where, faults)


def decompressed(text: str) -> list[int]:
    """The run lengths in the text of a compressed RLE; [-1] for invalid text, which pycocotools does not detect.

    Each length has 5 bits per character, the lowest first, and a bit that says whether more follow. From the fourth
    length on, the difference to the length before the last is stored.
    """
    lengths, value, shift = list[int](), 0, 0
    for character in text.encode("ascii", "replace"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 30:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return [-1] if shift else lengths
