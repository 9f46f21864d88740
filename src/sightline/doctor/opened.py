"""Open data that may be invalid: errors that stop `train` become findings, and all images are checked."""

import os
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from ..config.schema import Data
from ..data.channels import RGB, Channels
from ..data.decode.palettes import Palette
from ..data.decode.rasters import Reading
from ..data.decode.survey import BECOMES, MIXED, survey
from ..data.label_arrays import set_indices
from ..data.shards.index import is_sharded
from ..data.sources.open import LIBRARIES, WITHOUT_FILES, locate, open_source
from ..data.sources.scan import EXTENSIONS, images_below, is_hidden
from ..data.sources.splits import ALL
from ..data.types import FOLDER_HINT, Items
from ..errors import ENVIRONMENT, SightlineError, counted
from .findings import STOPS, Finding, Group, finding

MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
"""First bytes of PNG, JPEG, GIF and TIFF files. (The signatures of WebP, HEIC and AVIF start at a later byte.)"""


@dataclass
class OpenedData:
    """The data that the doctor checks.

    splits, classes, notes: as in a Source. files: whether the images are files below `root`. regular: whether `train`
    accepts the layout. palette, masked: for images with masks, the palette if known, and the complete image-mask pairs
    by split. findings: errors that were found when the data were opened. channels: of the images.
    """

    root: str
    splits: dict[str, Items]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    files: bool = True
    regular: bool = True
    palette: Palette | None = None
    masked: dict[str, Items] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    channels: Channels = RGB


def open_labeled(data: Data) -> OpenedData:
    """Open images for classification, labeled or not. Raises SightlineError if there are none."""
    found: list[Finding] = []
    try:
        source = open_source(data, data.split_seed, hold_out=False)
    except SightlineError as error:
        if error.status == ENVIRONMENT or data.path.partition(":")[0] in LIBRARIES or is_sharded(data):
            raise
        if error.what != MIXED:
            return open_any_layout(data, error)
        source = open_source(data.replace(channels="rgb"), data.split_seed, hold_out=False)
        source = replace(source, notes=tuple(note for note in source.notes if BECOMES not in note))
    files = source.layout not in WITHOUT_FILES
    if len(source.classes) == 1:
        what = f"there is 1 class ({source.classes[0]!r}), but a classifier needs 2"
        found.append(Finding("one_class", "error", what, STOPS, FOLDER_HINT))
    if not {ALL, "train"} & source.splits.keys():
        what = f"there is no training split, only {' and '.join(source.splits)}"
        found.append(
            Finding("no_training_split", "error", what, STOPS, "rename the folder of the training images to 'train'")
        )
    if files and not locate(data)[1]:  # the folder of a table may contain other files
        found += stray_checks(source.path)
    return OpenedData(
        *(source.path, dict(source.splits), source.classes, source.notes, files),
        findings=found,
        channels=source.channels,
    )


def read_any(root: str, stamps: dict[str, str], data: Data) -> tuple[Reading, list[str]]:
    """As `survey`, but images that do not agree are read as 8-bit RGB."""
    try:
        return survey(root, stamps, data)
    except SightlineError as error:
        if error.what != MIXED:
            raise
        return survey(root, stamps, data.replace(channels="rgb"))[0], []


def with_set_indices(opened: OpenedData) -> OpenedData:
    """Number the distinct label sets of all splits, and make them the classes, so that copies can be compared."""
    labeled = {split: items.labels for split, items in opened.splits.items() if items.labels is not None}
    every, texts = set_indices(np.concatenate([*labeled.values()]), opened.classes)
    parts = dict(zip(labeled, np.split(every, np.cumsum([len(each) for each in labeled.values()])[:-1]), strict=True))
    splits = {split: replace(items, labels=parts.get(split)) for split, items in opened.splits.items()}
    return replace(opened, splits=splits, classes=texts)


def open_any_layout(data: Data, error: SightlineError) -> OpenedData:
    """Open all images below a folder as one split without labels. error: why `train` rejects the layout."""
    root, _ = locate(data)
    files = images_below(root, "", Counter())
    if not files:
        raise error
    found = [Finding("layout", "error", error.what, error.why or STOPS, error.cure), *stray_checks(root)]
    names, stamps = tuple(file.name for file in files), tuple(file.stamp for file in files)
    reading, said = read_any(root, dict(zip(names, stamps, strict=True)), data)
    items = Items(
        names=names,
        labels=None,
        read=lambda index, side=0: reading.read(os.path.join(root, names[index]), data.max_pixels, side),
        stamps=stamps,
    )
    note = "`sightline train` does not accept this layout, so that splits, labels and masks were not checked"
    return OpenedData(root, {ALL: items}, (), (note, *said), regular=False, findings=found, channels=reading.channels)


def stray_checks(root: str) -> list[Finding]:
    """Find images that are not used: hidden, in hidden folders, or without an image extension."""
    hidden: list[Group] = []
    unnamed: list[Group] = []
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(filter(is_hidden, folders)):
            inside = [file for _, _, some in os.walk(os.path.join(folder, name)) for file in some]
            count = sum(file.lower().endswith(EXTENSIONS) for file in inside)
            hidden += [Group((f"{prefix}{name}/",), counted(count, "image"))] * (count > 0)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if is_hidden(name):
                hidden += [Group((prefix + name,), "hidden file")] * name.lower().endswith(EXTENSIONS)
            elif not name.lower().endswith((*EXTENSIONS, ".csv", ".tsv", ".txt")):
                unnamed += [Group((prefix + name,))] * starts_as_image(os.path.join(folder, name))
    return [*finding("hidden", hidden), *finding("not_used", unnamed)]


def starts_as_image(path: str) -> bool:
    """Whether a file starts with the signature of an image format. Pipes and devices are not opened."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(MAGIC) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif")
