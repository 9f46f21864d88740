"""COCO: one JSON file with images, categories, and annotations that are polygons or run lengths.

Boxes (`bbox`) are not read. A crowd region is an area of its category, as any other annotation.
"""

from collections import Counter

import numpy as np

from .checks import Coordinate, Record, Side, parsed, polygon_shape, runs_shape
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
    size: tuple[int, int]
    counts: str | list[int]


class CocoAnnotation(Record):
    image_id: int | str
    category_id: int | str
    segmentation: list[list[Coordinate]] | CocoRuns | None = None


class Coco(Record):
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


def read(path: str, name: str, faults: list[str]) -> FileContent:
    """Read a COCO file; name: its path relative to the data, for messages."""
    data = parsed(Coco, path, name, faults)
    if data is None:
        return FileContent()
    for key, values in (("images", [e.id for e in data.images]), ("categories", [e.id for e in data.categories])):
        faults += [f"{name}: {key}: the id {each!r} appears twice" for each, n in Counter(values).items() if n > 1]
    names = {category.id: category.name for category in data.categories}
    faults += [f"{name}: categories: {each!r} appears twice" for each, n in Counter(names.values()).items() if n > 1]
    images = {image.id: image for image in data.images}
    objects: dict[int | str, list[str]] = {number: [] for number in images}
    shapes: dict[int | str, list[Shape]] = {number: [] for number in images}
    unused: Counter[str] = Counter()
    for index, item in enumerate(data.annotations):
        where = f"{name}: annotations[{index}]"
        if item.image_id not in images or item.category_id not in names:
            wrong = "image_id" if item.image_id not in images else "category_id"
            faults.append(f"{where}.{wrong}: no image or category has the id {getattr(item, wrong)!r}")
            continue
        objects[item.image_id].append(names[item.category_id])
        found = shape_of(item, names[item.category_id], images[item.image_id], f"{where}.segmentation", faults)
        shapes[item.image_id] += found
        unused["box or annotation without an area"] += not found
    content = FileContent(tuple(names.values()), [], unused)
    for index, image in enumerate(data.images):
        found = (tuple(objects[image.id]), tuple(shapes[image.id]), (image.width, image.height))
        content.images.append(AnnotatedImage(image.file_name, f"{name}: images[{index}]", (), *found))
    return content


def shape_of(item: CocoAnnotation, label: str, image: CocoImage, where: str, faults: list[str]) -> list[Shape]:
    """The area of an annotation; [] if it has only a box, or after adding a fault."""
    size, coded = (image.width, image.height), item.segmentation
    if isinstance(coded, CocoRuns):
        if coded.size != size[::-1]:
            faults.append(f"{where}.size is {list(coded.size)}, but the image has [height, width] {list(size[::-1])}")
            return []
        counts = decompressed(coded.counts) if isinstance(coded.counts, str) else coded.counts
        return runs_shape(label, Runs(np.array(counts, np.int64), (0, 0, *size), True), size, f"{where}.counts", faults)
    if odd := [index for index, part in enumerate(coded or ()) if len(part) % 2]:
        faults.append(f"{where}[{odd[0]}] has {len((coded or ())[odd[0]])} numbers, which are not pairs of x and y")
        return []
    return polygon_shape(label, [np.array(part).reshape(-1, 2) for part in coded or ()], size, where, faults)


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
