"""Open image-mask pairs: match images to masks, report all files without a partner, and choose the palette."""

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..annotations.masks import open_masks
from ..annotations.reading import read_annotations
from ..annotations.recognize import READERS
from ..decode.images import image_of
from ..decode.masks import MaskFacts, Numbering, read_mask
from ..decode.palettes import CAMVID, Palette, empty_palette, palette_of
from ..decode.rasters import Reading
from ..decode.survey import survey
from ..shards.index import is_sharded, open_packed
from ..shards.parquet import holds_masks, list_masked, parquet_files
from ..types import Items, Source
from .layouts import unused_note
from .leakage import finish_source
from .open import LIBRARIES, declared_classes, locate, open_source
from .pair_layouts import TEMPLATE, PairFiles, holds_pairs, mask_path, named_as_masks, recognize
from .scan import File, left_out, links_note, list_folder, without_links
from .splits import ALL

VOIDS = ("void", "unknown", "unlabeled", "unlabelled", "ignore", "ignored", "nodata")
LAYOUTS = ("auto", "splits", "unlabelled", *READERS)

Pair = tuple[File, File | None]


@dataclass
class Unpaired:
    """Files of all splits that cannot be paired: names of images without a mask, names of masks without an image,
    and descriptions of ambiguous matches."""

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)


def open_pairs(data: Data, seed: int, hold_out: bool = True, known: Palette | None = None) -> tuple[Source, Palette]:
    """Recognize the layout of the image-mask pairs in `data.path` and list them, without decoding: (source, palette).

    hold_out: whether the data are for training. Then masks are required, and a missing validation split is held out of
    train by `seed`. known: the palette of a finished run, which replaces that of the settings. Raises SightlineError
    with all images without a mask, masks without an image, and ambiguous matches.
    """
    if is_sharded(data):
        source, packed = open_packed(data, seed, hold_out, known)
        if packed is None:
            cure = "pack the folder of images and masks again: sightline pack DATA OUT --data.palette NAME"
            raise SightlineError("there are no masks in these shards", where=source.path, cure=cure)
        return source, packed
    root, packed_files = parquet_files(data)
    if packed_files:
        return open_parquet(root, packed_files, data, seed, hold_out, known)
    root, table = locate(data)
    if table or data.layout not in LAYOUTS:
        what = f"the data are a table, {table}" if table else f"the layout {data.layout!r} is for labeled images"
        cure = "give the folder that contains the images and masks, without --data.layout: --data FOLDER"
        raise SightlineError(f"{what}, but segmentation needs a mask for every image", where=root, cure=cure)
    if annotated := None if data.mask else read_annotations(root, data, hold_out):
        source, palette = open_masks(root, annotated, data, known, declared_classes(root, data)[0])
        source = replace(source, notes=(*source.notes, *palette_notes(root, data, palette)))
        return finish_source(source, data, seed, hold_out, "images with annotations"), palette
    tally: Counter[str] = Counter()
    files = recognize(root, data, tally)
    if data.layout == "unlabelled":
        files = {split: part._replace(layout="unlabelled", masks=None) for split, part in files.items()}
    unsplit = ALL in files and data.layout != "splits"
    if not unsplit and (ALL in files or (hold_out and "train" not in files)):
        why = f"its folders are: {some_of([repr(name) for name in list_folder(root).folders]) or 'none'}"
        cure = "rename the folder of the training images to 'train', or leave out --data.layout"
        raise SightlineError("there is no training split", where=root, why=why, cure=cure)
    pairs, dropped = {}, []
    matched, unpaired = match_masks(root, data, files, hold_out)
    for split, members in matched.items():
        masks = [mask and (mask.inode or mask.name) for _, mask in members]
        kept, links = without_links([image for image, _ in members], masks)
        pairs[split] = [members[index] for index in kept]
        dropped += links
    if known:
        reject_other_classes(root, data, known)
    palette = known or choose_palette(root, data, [mask.name for split in pairs.values() for _, mask in split if mask])
    notes = [*unpaired, *layout_notes(root, pairs), *links_note(dropped), *palette_notes(root, data, palette)]
    if tally:
        notes.append(f"left out: {left_out(tally)}")
    reading, said = survey(root, {image.name: image.stamp for part in pairs.values() for image, _ in part}, data)
    notes += said
    how = palette, data.max_pixels, reading, Numbering()
    splits = {split: items_of(root, members, *how) for split, members in pairs.items()}
    layout = next((part.layout for part in files.values() if part.masks is not None), "unlabelled")
    source = Source(root, layout, palette.classes, splits, tuple(notes), reading.channels)
    kind = "image-mask pairs" if any(items.read_mask for items in splits.values()) else "images without masks"
    return finish_source(source, data, seed, hold_out, kind), palette


def open_parquet(
    root: str, files: list[str], data: Data, seed: int, hold_out: bool, known: Palette | None
) -> tuple[Source, Palette]:
    """Open images and masks in Parquet files; arguments and result as of `open_pairs`."""
    listed = list_masked(root, files, data)
    if known:
        reject_other_classes(root, data, known)
    every, numbering = [file.name for some in listed.images.values() for file in some], Numbering()
    palette = known or choose_palette(root, data, every[:1], listed.masks(every[0]) if every else None)

    def items(images: list[File]) -> Items:
        names, times = tuple(file.name for file in images), [file.stamp for file in images]

        def read(index: int, side: int = 0) -> Image.Image:
            return image_of(listed.content(names[index]), os.path.join(root, names[index]), data.max_pixels, side)

        def mask(index: int, facts: MaskFacts | None = None) -> np.ndarray:
            return read_mask(masks[index], palette, data.max_pixels, facts, listed.masks(names[index]), numbering)

        masks, stamps = (tuple(f"{one} ({listed.column})" for one in each) for each in (names, times))
        return Items(names, None, read, stamps, mask, masks)

    splits = {split: items(images) for split, images in listed.images.items()}
    notes = (listed.note, *palette_notes(root, data, palette))
    source = Source(root, "parquet", palette.classes, splits, notes)
    return finish_source(source, data, seed, hold_out, "image-mask pairs"), palette


def is_segmentation(data: Data) -> bool:
    """Whether data are image-mask pairs, by settings, layout or the index of shards."""
    if is_sharded(data):
        return open_packed(data, data.split_seed, hold_out=False)[1] is not None
    if data.mask or data.palette or data.colors:
        return True
    root, files = parquet_files(data)
    if files:
        return data.labels == "auto" and holds_masks(root, files, data)
    if data.layout not in ("auto", *READERS) or data.path.partition(":")[0] in LIBRARIES:
        return False
    with contextlib.suppress(SightlineError):
        if data.labels == "auto" and holds_shapes(locate(data)[0], data):
            return True
        if labeled_by_folders(open_source(data, data.split_seed, hold_out=False)):
            return False
    return holds_pairs(data.path)


def open_without_masks(data: Data) -> Source | None:
    """The images of a folder of images and masks, for training without labels; None for data in other layouts."""
    if is_sharded(data) or parquet_files(data)[1] or not (data.mask or holds_pairs(data.path)):
        return None  # before `is_segmentation`, which lists all files twice
    if not is_segmentation(data) or read_annotations(locate(data)[0], data, hold_out=False):
        return None
    source, palette = open_pairs(data.replace(layout="unlabelled"), data.split_seed, hold_out=False)
    notes = [note for note in source.notes if note not in palette_notes(source.path, data, palette)]
    return replace(source, classes=(), notes=(*notes, "the masks are not used"))


def holds_shapes(root: str, data: Data) -> bool:
    """Whether annotation files in `root` have shapes from which masks can be drawn."""
    annotated = read_annotations(root, data, hold_out=False)
    return annotated is not None and any(i.shapes for members in annotated.splits.values() for _, i in members)


def labeled_by_folders(source: Source) -> bool:
    """Whether a source has class folders and not folders of images and masks. This is assumed if the folder of the
    first image is a class, and no class has a usual name of a folder of masks."""
    names = next(iter(source.splits.values())).names
    folder = PurePosixPath(names[0]).parent.name if names else ""
    return folder in source.classes and not any(named_as_masks(name) for name in source.classes)


def match_masks(
    root: str, data: Data, splits: dict[str, PairFiles], hold_out: bool
) -> tuple[dict[str, list[Pair]], list[str]]:
    """Match the images of each split to their masks; the second value is notes on files that are left out. The mask is
    None in splits without masks, which are allowed for the test split, and for evaluation.

    Raises SightlineError with all unmatched and ambiguous files; with `data.on_unpaired` leave_out only if some are
    ambiguous, or a split would be empty.
    """
    if hold_out and all(part.masks is None for part in splits.values()):
        raise no_masks(root, data, splits)
    unpaired, pairs = Unpaired(), {}
    for split, part in splits.items():
        unmasked = part.masks is None and (split == "test" or not hold_out)
        pairs[split] = [(file, None) for file in part.images] if unmasked else pair_names(part, unpaired)
    if not (unpaired.images or unpaired.masks or unpaired.ambiguous):
        return pairs, []
    alone = {*unpaired.images}
    rest = {split: [pair for pair in members if pair[0].name not in alone] for split, members in pairs.items()}
    if data.on_unpaired == "stop" or unpaired.ambiguous or not all(rest.values()):
        reject_unpaired(root, data, splits, unpaired, all(rest.values()))
    kinds = (("without a mask", "image", unpaired.images), ("without an image", "mask", unpaired.masks))
    return rest, [f"left out: {counted(len(n), kind)} {what}: {some_of(n)}" for what, kind, n in kinds if n]


def pair_names(part: PairFiles, unpaired: Unpaired) -> list[Pair]:
    """Match each image to its mask, in the order of the images; adds unmatched and ambiguous files to `unpaired`."""
    by_key: dict[str, list[File]] = {}
    for mask in part.masks or ():
        by_key.setdefault(mask.name if part.with_extension else os.path.splitext(mask.name)[0], []).append(mask)
    pairs: list[Pair] = []
    owner: dict[str, str] = {}
    for image in part.images:
        hits = [mask for key in part.candidates(image.name) for mask in by_key.get(key, ())]
        for mask in hits:
            if owner.setdefault(mask.name, image.name) != image.name:
                unpaired.ambiguous.append(f"{mask.name!r}: the mask of {owner[mask.name]!r} or of {image.name!r}")
        if not hits:
            unpaired.images.append(image.name)
        elif len(hits) > 1:
            unpaired.ambiguous.append(f"{image.name!r}: {' or '.join(repr(mask.name) for mask in hits)}")
        pairs.append((image, hits[0] if hits else None))
    unpaired.masks += [mask.name for mask in part.masks or () if mask.name not in owner]
    return pairs


def reject_unpaired(root: str, data: Data, splits: dict[str, PairFiles], unpaired: Unpaired, removable: bool) -> None:
    """Raise SightlineError with all unmatched and ambiguous images and masks. removable: whether every split has other
    images."""
    images = sum(len(part.images) for part in splits.values())
    masks = sum(len(part.masks or ()) for part in splits.values())
    groups = (
        (f"{len(unpaired.images):,} of {images:,} images have no mask", unpaired.images),
        (f"{len(unpaired.masks):,} of {masks:,} masks have no image", unpaired.masks),
        (f"{len(unpaired.ambiguous):,} images or masks have several partners", unpaired.ambiguous),
    )
    shown = [(title, names) for title, names in groups if names]
    why = "".join(f"\n  {title}:\n{listing(names)}" for title, names in shown)
    leave = "" if unpaired.ambiguous or not removable else "leave out those without a partner: --data.on_unpaired "
    cure = f"{leave + 'leave_out; or ' if leave else ''}add the missing files; or {TEMPLATE}"
    if data.mask and unpaired.images:
        first = unpaired.images[0]
        cure = f"by --data.mask, the mask of {first!r} is {mask_path(first, data.mask, root)!r}; {cure}"
    raise SightlineError(", ".join(title for title, _ in shown), where=root, why=why, cure=cure)


def no_masks(root: str, data: Data, splits: dict[str, PairFiles]) -> SightlineError:
    """The SightlineError for images without any mask: which files were found, which layouts were searched."""
    images = [file.name for part in splits.values() for file in part.images]
    folders = some_of([repr(name) for name in list_folder(root).folders])
    usual = (
        "NAME_mask.png beside NAME.jpg or NAME_sat.jpg, a folder masks/ beside images/, a folder trainannot/ beside "
        "train/"
    )
    why = f"there are {len(images):,} images, such as {images[0]!r}, and the folders {folders or '(none)'}, but not "
    why += repr(mask_path(images[0], data.mask, root)) if data.mask else f"one of these layouts: {usual}"
    cure = f"give the folder that contains both images and masks: --data FOLDER; or {TEMPLATE}"
    if len({os.path.dirname(name) for name in images}) > 1:
        cure = f"if the folders are the classes of the images, train a classifier: photos_finetune; if not: {cure}"
    return SightlineError("there are images, but no masks", where=root, why=why, cure=cure)


def choose_palette(root: str, data: Data, masks: Sequence[str], content: bytes | None = None) -> Palette:
    """The palette by the settings or classes.txt. Without both, SightlineError with a guess from one mask. content: the
    bytes of the first mask if it is not a file."""
    names, _ = declared_classes(root, data)
    if data.palette or data.colors or names:
        return palette_of(data, names)
    if not masks:
        return empty_palette()
    try:
        return palette_of(data)
    except SightlineError as error:
        why, cure = guess_palette(root, masks[0], content)
        raise SightlineError(error.what, where=root, why=why, cure=cure or error.cure) from error


def reject_other_classes(root: str, data: Data, known: Palette) -> None:
    """Raise SightlineError if the data declare other class names than the palette of a finished run, if its masks
    have class ids."""
    names, origin = declared_classes(root, data)
    if known.colors is None and names != known.names[: len(names)]:
        why = f"the run has {', '.join(known.names)}; {origin} has {', '.join(names)}"
        cure = "give the class names of the run, or remove classes.txt and --data.classes; the ids in the masks must "
        cure += "have the meaning that they have in the run"
        raise SightlineError("the classes of the data differ from those of the run", where=root, why=why, cure=cure)


def guess_palette(root: str, name: str, content: bytes | None = None) -> tuple[str, str]:
    """Guess the palette of a mask: (description of the values in the mask, option for this palette). Both are empty
    if no common palette fits."""
    for choice in ("binary", "landcover", ""):
        settings = {"palette": choice} if choice else {"classes": tuple(map(str, range(254)))}
        facts = MaskFacts()
        try:
            palette = palette_of(Data.model_validate(settings))
            mask = read_mask(os.path.join(root, name), palette, facts=facts, content=content)
        except SightlineError:
            continue
        if not choice:
            found = f"{name} contains class ids, up to {mask.max()}"
            cure = "name the classes in order of their ids: --data.classes '[NAME, NAME]', or a file classes.txt"
            return found, cure + ("; only for CamVid: --data.palette camvid" if mask.max() < len(CAMVID) else "")
        if facts.inexact * 4 < mask.size:
            return f"{name} looks like a mask of the palette {choice!r}", f"--data.palette {choice}"
    return "", ""


def items_of(
    root: str, pairs: Sequence[Pair], palette: Palette, max_pixels: int, reading: Reading, numbering: Numbering
) -> Items:
    """The `Items` (names, masks, ...) of a split whose images and masks are files below `root`. numbering: of the masks
    of all splits."""
    names = tuple(image.name for image, _ in pairs)
    masks = tuple(mask.name for _, mask in pairs if mask)

    def read(index: int, facts: MaskFacts | None = None) -> np.ndarray:
        return read_mask(os.path.join(root, masks[index]), palette, max_pixels, facts, numbering=numbering)

    return Items(
        names=names,
        labels=None,
        read=lambda index, side=0: reading.read(os.path.join(root, names[index]), max_pixels, side),
        stamps=tuple(f"{image.stamp} {mask.name} {mask.stamp}" if mask else image.stamp for image, mask in pairs),
        read_mask=read if masks else None,
        mask_names=masks or None,
    )


def layout_notes(root: str, pairs: dict[str, list[Pair]]) -> list[str]:
    """Sentences for the user on the folders of the pairs, with an example, and on unused files."""
    folders = {split: os.path.commonpath([os.path.dirname(i.name) for i, _ in some]) for split, some in pairs.items()}
    shown = [folder + "/" if split == ALL else f"{split} in {folder}/" for split, folder in folders.items() if folder]
    examples = [f"pairs like {i.name} with {m.name}" for members in pairs.values() for i, m in members[:1] if m]
    notes = [f"found {', '.join(shown)}{': ' * bool(shown)}{examples[0] if examples else 'images without masks'}"]
    notes += [f"{split} has no masks" for split, members in pairs.items() if examples and not members[0][1]]
    used = {file.name.split("/")[0] for members in pairs.values() for pair in members for file in pair if file}
    return [*notes, *unused_note(list_folder(root), used)]


def palette_notes(root: str, data: Data, palette: Palette) -> list[str]:
    """Sentences for the user on the classes and the ignored classes."""
    if not palette.names:
        return []
    ignored = f"; ignored: {', '.join(palette.ignored)}" if palette.ignored else ""
    notes = [f"classes: {', '.join(palette.classes)}{ignored}"]
    voids = [name for name in palette.classes if name.lower() in VOIDS]
    notes += [f"{name!r} counts as a class; to ignore it: --data.ignore '[{name}]'" for name in voids]
    names, origin = declared_classes(root, data)
    if names not in (palette.names[: len(names)], palette.names[1 : len(names) + 1]):  # the first may be `background`
        notes.append(f"{origin} is not used, because the palette defines the classes")
    return notes
