"""COCO: one JSON file with images, categories, and annotations that are polygons or run lengths.

Boxes (`bbox`) are not read. A crowd region is an area of its category, as any other annotation.
"""

from typing import Any

from .checks import KEYS, FaultList, described
from .shapes import AnnotatedImage, FileContent, Runs, Shape

TITLE = "COCO"


def read(path: str, name: str, faults: FaultList) -> FileContent:
    """Read a COCO file; name: its path relative to the data, for messages."""
    content, data = FileContent(), faults.json(path, name)
    if data is None:
        return content
    images, categories, annotations = (
        faults.member(data, key, list, name) or [] for key in ("images", "categories", "annotations")
    )
    names = category_names(categories, name, faults)
    content.classes = tuple(names.values())
    entries: dict[Any, AnnotatedImage] = {}
    for index, item in enumerate(images):
        where = f"{name}: images[{index}]"
        number, file = (faults.member(item, key, kind, where) for key, kind in (("id", KEYS), ("file_name", str)))
        size = faults.size(item, ("width", "height"), where) if isinstance(item, dict) else None
        if number in entries:
            faults.append(f"{where}: the id {number!r} is that of {entries[number].file!r} too")
        elif number is not None and file is not None and size is not None:
            entries[number] = AnnotatedImage(file, where, size=size)
    shapes: dict[Any, list[tuple[str, Shape | None]]] = {number: [] for number in entries}
    complete = len(entries) == len(images)
    for index, item in enumerate(annotations):
        where = f"{name}: annotations[{index}]"
        image, category = (faults.member(item, key, KEYS, where) for key in ("image_id", "category_id"))
        if image is not None and image not in entries and complete:
            faults.append(f"{where}: image_id {image!r} is not the id of an image")
        if category is not None and category not in names:
            faults.append(f"{where}: category_id {category!r} is not the id of a category")
        if image in entries and category in names:
            shape = shape_of(item, names[category], entries[image], where, faults, content)
            shapes[image].append((names[category], shape))
    for number, found in shapes.items():
        drawn = tuple(shape for _, shape in found if shape)
        content.images.append(entries[number]._replace(objects=tuple(label for label, _ in found), shapes=drawn))
    return content


def category_names(categories: list[Any], name: str, faults: FaultList) -> dict[Any, str]:
    """The name of each category by its id, in the order of the file."""
    names: dict[Any, str] = {}
    for index, item in enumerate(categories):
        where = f"{name}: categories[{index}]"
        number, label = (faults.member(item, key, kind, where) for key, kind in (("id", KEYS), ("name", str)))
        if number in names or label in names.values():
            faults.append(f"{where}: the id {number!r} or the name {label!r} appears twice")
        elif number is not None and label is not None:
            names[number] = label
    return names


def shape_of(
    item: dict[str, Any], label: str, image: AnnotatedImage, where: str, faults: FaultList, content: FileContent
) -> Shape | None:
    """The area of an annotation; None if it has only a box, or after adding a fault."""
    where, coded = f"{where}.segmentation", item.get("segmentation")
    assert image.size is not None
    if not coded:
        content.unused["box without an area"] += 1
        return None
    if isinstance(coded, dict):
        runs = runs_of_rle(coded, image.size, where, faults)
        return None if runs is None else Shape(label, runs=runs)
    if not isinstance(coded, list) or not all(isinstance(part, list) for part in coded):
        faults.append(
            f"{where} is {described(coded)} instead of a list of polygons, [[x, y, x, y, ...]], or run lengths"
        )
        return None
    parts = [faults.polygon(part, f"{where}[{index}]", content.unused) for index, part in enumerate(coded)]
    shape = Shape(label, tuple(part for part in parts if part is not None))
    return None if not shape.polygons or faults.outside(shape, image.size, where) else shape


def runs_of_rle(coded: dict[str, Any], size: tuple[int, int], where: str, faults: FaultList) -> Runs | None:
    """The runs of an RLE, compressed (text) or not (list); None after adding a fault."""
    counts, shape = (faults.member(coded, key, kind, where) for key, kind in (("counts", (list, str)), ("size", list)))
    if counts is None or shape is None:
        return None
    if shape != [size[1], size[0]]:
        faults.append(f"{where}.size is {shape} instead of [height, width] of the image, {[size[1], size[0]]}")
        return None
    lengths = decompressed(counts) if isinstance(counts, str) else counts
    return faults.runs(lengths, (0, 0, *size), size, f"{where}.counts", by_columns=True)


def decompressed(text: str) -> list[int]:
    """The run lengths in the text of a compressed RLE; a list that is no valid RLE for invalid text.

    Each length has 5 bits per character, the lowest first, and a bit that says whether more follow. From the fourth
    length on, the difference to the length before the last is stored. (pycocotools does not check such text.)
    """
    lengths, value, shift = list[int](), 0, 0
    for character in text.encode("ascii", "replace"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return [-1] if shift else lengths
