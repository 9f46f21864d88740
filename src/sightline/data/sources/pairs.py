"""Image-mask pairs: how folders and names pair them, all that is missing at once, and the splits as a Source."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from ...config.schema import Data
from ...errors import SightlineError, listing
from ..decode.images import open_image
from ..decode.masks import MaskFacts, read_mask
from ..decode.palettes import Palette, empty_palette, palette_of
from .found import links_note
from .leakage import held_together, torn_groups
from .open import Items, Source, declared_classes, locate
from .pair_layouts import IMAGE_FOLDERS, MASK_FOLDERS, TEMPLATE, Place, mask_path, named_as_masks, recognize
from .scan import File, left_out, shelf
from .splits import WHOLE, split_of

VOIDS = ("void", "unknown", "unlabeled", "unlabelled", "ignore", "ignored", "nodata")
LAYOUTS = ("auto", "splits", "unlabelled")

Pair = tuple[File, File | None]


@dataclass
class Unpaired:
    """What found no partner, over all splits."""

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)


def open_pairs(data: Data, seed: int, hold_out: bool = True, known: Palette | None = None) -> tuple[Source, Palette]:
    """Recognize how `data.path` pairs images with masks, and list the pairs; no file is decoded.

    hold_out: the data are to train on: there must be masks, and where there is no validation split, `seed` chooses a
    share of train. Without it the splits stay as found, and where no image of one has a mask, its read_mask is None.
    known: the palette of a run, by which the masks are read, in place of that of the settings.
    Raises SightlineError that lists all images without a mask, masks without an image, and ambiguous ones.
    """
    from ..shards.index import is_sharded, open_shard_pairs

    if is_sharded(data):
        return open_shard_pairs(data, seed, hold_out, known)
    root, table = locate(data)
    if table or data.layout not in LAYOUTS:
        what = f"{table} is a table" if table else f"the layout {data.layout!r} is one of labeled images"
        cure = "give the folder of the images and masks, and leave out --data.layout"
        raise SightlineError(f"{what}; segmentation needs a mask for every image", where=root, cure=cure)
    tally: Counter[str] = Counter()
    places = recognize(root, data, tally)
    if data.layout == "unlabelled":
        places = {split: place._replace(layout="unlabelled", masks=None) for split, place in places.items()}
    whole = WHOLE in places and data.layout != "splits"
    if not whole and (WHOLE in places or (hold_out and "train" not in places)):
        why = f"the folders here are {', '.join(map(repr, shelf(root).folders[:8])) or 'none'}"
        cure = "name one of the folders 'train'" + (", or leave out --data.layout" if data.layout != "auto" else "")
        raise SightlineError("there is no training split", where=root, why=why, cure=cure)
    pairs, again = without_links(pair_all(root, data, places, hold_out))
    if known:
        refuse_other_classes(root, data, known)
    palette = known or settle_palette(root, data, [mask.name for split in pairs.values() for _, mask in split if mask])
    splits = {split: items_of(root, members, palette, data.max_pixels) for split, members in pairs.items()}
    notes = [*layout_notes(root, pairs), *links_note(again), *palette_notes(root, data, palette)]
    if tally:
        notes.append(f"left out: {left_out(tally)}")
    if hold_out:
        splits = {"train" if split == WHOLE else split: items for split, items in splits.items()}
        splits = splits if "val" in splits else with_val(root, splits, data, seed, notes)
        notes += torn_groups(root, splits, data)
    counts = [f"all {len(i.names):,}" if split == WHOLE else f"{len(i.names):,} {split}" for split, i in splits.items()]
    masked = any(items.read_mask for items in splits.values())
    ending = f"image-mask pairs of {len(palette.classes):,} classes" if masked else "images without masks"
    notes.append(f"{' + '.join(counts)} {ending}")
    layout = next((place.layout for place in places.values() if place.masks is not None), "unlabelled")
    return Source(root, layout, palette.classes, splits, tuple(notes)), palette


def labeled_by_folders(source: Source) -> bool:
    """Whether classes are folders, by the first image, and none is called as folders of masks are."""
    names = next(iter(source.splits.values())).names
    folder = PurePosixPath(names[0]).parent.name if names else ""
    return folder in source.classes and not any(named_as_masks(name) for name in source.classes)


def pair_all(root: str, data: Data, places: dict[str, Place], hold_out: bool) -> dict[str, list[Pair]]:
    """Split -> its images, each with its mask; without masks where a split has none and needs none."""
    if hold_out and all(place.masks is None for place in places.values()):
        raise no_masks(root, data, places)
    unpaired, pairs = Unpaired(), {}
    for split, place in places.items():
        free = place.masks is None and (split == "test" or not hold_out)
        pairs[split] = [(file, None) for file in place.images] if free else pair_names(place, unpaired)
    if unpaired.images or unpaired.masks or unpaired.ambiguous:
        refuse_unpaired(root, data, places, unpaired)
    return pairs


def without_links(pairs: dict[str, list[Pair]]) -> tuple[dict[str, list[Pair]], list[tuple[str, str]]]:
    """The pairs of each split with each once, and (image that is left out, image that stays) of those whose image and
    mask links reach again."""
    kept: dict[str, list[Pair]] = {}
    again: list[tuple[str, str]] = []
    for split, members in pairs.items():
        first: dict[tuple[object, ...], str] = {}
        kept[split] = []
        for image, mask in members:
            inodes = (image.inode, mask.inode if mask else (0,))
            stays = first.setdefault(inodes, image.name) if all(inodes) else image.name
            if stays == image.name:
                kept[split].append((image, mask))
            else:
                again.append((image.name, stays))
    return kept, again


def pair_names(place: Place, unpaired: Unpaired) -> list[Pair]:
    """Every image with its mask, in the images' order; what does not pair off one to one is added to `unpaired`."""
    by_key: dict[str, list[File]] = {}
    for mask in place.masks or ():
        by_key.setdefault(mask.name if place.whole else os.path.splitext(mask.name)[0], []).append(mask)
    pairs: list[Pair] = []
    owner: dict[str, str] = {}
    for image in place.images:
        hits = [mask for key in place.wanted(image.name) for mask in by_key.get(key, ())]
        for mask in hits:
            if owner.setdefault(mask.name, image.name) != image.name:
                unpaired.ambiguous.append(f"{mask.name!r}: the mask of {owner[mask.name]!r} or of {image.name!r}")
        if not hits:
            unpaired.images.append(image.name)
        elif len(hits) > 1:
            unpaired.ambiguous.append(f"{image.name!r}: {' or '.join(repr(mask.name) for mask in hits)}")
        pairs.append((image, hits[0] if hits else None))
    unpaired.masks += [mask.name for mask in place.masks or () if mask.name not in owner]
    return pairs


def refuse_unpaired(root: str, data: Data, places: dict[str, Place], unpaired: Unpaired) -> None:
    """The error for halves of pairs, all of them."""
    images = sum(len(place.images) for place in places.values())
    masks = sum(len(place.masks or ()) for place in places.values())
    groups = (
        (f"{len(unpaired.images):,} of {images:,} images have no mask", unpaired.images),
        (f"{len(unpaired.masks):,} of {masks:,} masks have no image", unpaired.masks),
        (f"{len(unpaired.ambiguous):,} cannot be told apart", unpaired.ambiguous),
    )
    told = [(title, names) for title, names in groups if names]
    why = "".join(f"\n  {title}:\n{listing(names)}" for title, names in told)
    cure = f"add or remove the other halves; or {TEMPLATE}"
    if data.mask and unpaired.images:
        cure = f"{unpaired.images[0]!r} needs {mask_path(unpaired.images[0], data.mask, root)!r}; {cure}"
    raise SightlineError(", ".join(title for title, _ in told), where=root, why=why, cure=cure)


def no_masks(root: str, data: Data, places: dict[str, Place]) -> SightlineError:
    """The error for images of which none has a mask: what was found, what was looked for."""
    images = [file.name for place in places.values() for file in place.images]
    folders, known = shelf(root).folders, (*IMAGE_FOLDERS, *MASK_FOLDERS)
    deeper = [n for n in folders if any(split_of(f) or f.lower() in known for f in shelf(root, n).folders)]
    usual = "NAME_mask.png beside NAME_sat.jpg or NAME.jpg, for images/ with masks/, for train/ with trainannot/"
    why = f"found {len(images):,} images like {images[0]!r}"
    why += f" and the folders {', '.join(map(repr, folders[:8]))}" if folders else ""
    why += f"; looked for {repr(mask_path(images[0], data.mask, root)) if data.mask else usual}"
    hint = f"--data {os.path.join(root, deeper[0])}; or " if len(deeper) == 1 and places.keys() == {WHOLE} else ""
    return SightlineError("there are images, and no masks", where=root, why=why, cure=hint + TEMPLATE)


def settle_palette(root: str, data: Data, masks: Sequence[str]) -> Palette:
    """The palette of the settings and of classes.txt; where nothing says it, an error that has seen the first mask."""
    names, _ = declared_classes(root, data)
    if data.palette or data.colors or names:
        return palette_of(data, names)
    if not masks:
        return empty_palette()
    try:
        return palette_of(data)
    except SightlineError as error:
        why, cure = first_guess(root, masks[0])
        raise SightlineError(error.what, where=root, why=why, cure=cure or error.cure) from error


def refuse_other_classes(root: str, data: Data, known: Palette) -> None:
    """SightlineError where classes.txt gives the ids of the masks other names than a run's palette does."""
    names, origin = declared_classes(root, data)
    if known.colors is None and names != known.names[: len(names)]:
        why = f"the run knows {', '.join(known.names)}; {origin} says {', '.join(names)}"
        cure = "ids must mean the same: convert the masks to the run's, and correct or remove classes.txt"
        raise SightlineError("the data has other classes than the run", where=root, why=why, cure=cure)


def first_guess(root: str, name: str) -> tuple[str, str]:
    """(what the mask of that name looks like, the option for it), empty where it looks like nothing known."""
    for choice in ("binary", "landcover", ""):
        settings = {"palette": choice} if choice else {"classes": tuple(map(str, range(254)))}
        facts = MaskFacts()
        try:
            mask = read_mask(os.path.join(root, name), palette_of(Data.model_validate(settings)), facts=facts)
        except SightlineError:
            continue
        if not choice:
            known = f"{name} holds class ids, up to {mask.max()}"
            return known, "name them in order: --data.classes '[NAME, NAME]' or classes.txt; or --data.palette camvid"
        if facts.inexact * 4 < mask.size:
            return f"{name} looks like one of the palette {choice!r}", f"--data.palette {choice}"
    return "", ""


def items_of(root: str, pairs: Sequence[Pair], palette: Palette, max_pixels: int) -> Items:
    """Items that read images and masks below `root`."""
    names = tuple(image.name for image, _ in pairs)
    masks = tuple(mask.name for _, mask in pairs if mask)

    def read(index: int, facts: MaskFacts | None = None) -> np.ndarray:
        return read_mask(os.path.join(root, masks[index]), palette, max_pixels, facts)

    return Items(
        names=names,
        labels=None,
        read=lambda index, side=0: open_image(os.path.join(root, names[index]), max_pixels, side),
        stamps=tuple(f"{image.stamp} {mask.name} {mask.stamp}" if mask else image.stamp for image, mask in pairs),
        read_mask=read if masks else None,
        mask_names=masks or None,
    )


def layout_notes(root: str, pairs: dict[str, list[Pair]]) -> list[str]:
    """Sentences on where the pairs were found and on what is not used."""
    places = {split: os.path.commonpath([os.path.dirname(i.name) for i, _ in some]) for split, some in pairs.items()}
    said = [place + "/" if split == WHOLE else f"{split} in {place}/" for split, place in places.items() if place]
    examples = [f"pairs like {i.name} with {m.name}" for members in pairs.values() for i, m in members[:1] if m]
    notes = [f"found {', '.join(said)}{': ' * bool(said)}{examples[0] if examples else 'images without masks'}"]
    notes += [f"{split} has no masks" for split, members in pairs.items() if examples and not members[0][1]]
    used = {file.name.split("/")[0] for members in pairs.values() for pair in members for file in pair if file}
    here = shelf(root)
    unused = [f"{name}/" for name in here.folders if name not in used] + list(here.tables)
    loose = sum(file.name not in used for file in here.images)
    unused += [f"{loose:,} loose images"] * bool(loose)
    return [*notes, f"not used: {', '.join(unused[:8])}"] if unused else notes


def palette_notes(root: str, data: Data, palette: Palette) -> list[str]:
    """Sentences on the classes, on what is merged and ignored, and on how colors are matched."""
    if not palette.names:
        return []
    ignored = f"; ignored: {', '.join(palette.ignored)}" if palette.ignored else ""
    notes = [f"classes: {', '.join(palette.classes)}{ignored}"]
    if data.merge:
        notes.append("merged: " + ", ".join(f"{name} into {target}" for name, target in data.merge.items()))
    if palette.threshold or palette.tolerance:
        how = f"with the threshold {palette.threshold}" if palette.threshold else f"within {palette.tolerance}"
        notes.append(f"colors are matched {how}")
    voids = [name for name in palette.classes if name.lower() in VOIDS]
    notes += [f"{name!r} counts as a class; if it is none: --data.ignore '[{name}]'" for name in voids]
    names, origin = declared_classes(root, data)
    if names != palette.names[: len(names)]:
        notes.append(f"{origin} is not used: the palette names the classes")
    return notes


def with_val(root: str, splits: dict[str, Items], data: Data, seed: int, notes: list[str]) -> dict[str, Items]:
    """The splits, with a share of `train` held out as `val`: at least one pair, at most all but one."""
    train, others = splits["train"], {split: items for split, items in splits.items() if split != "train"}
    chosen, said = held_together(root, train, np.zeros(len(train.names), np.int64), data, seed)
    if not chosen.any():
        cure = "add pairs, or a folder val/"
        why = "there is only one, or all are one group or copies of one"
        raise SightlineError("no pair can be held out for validation", where=root, why=why, cure=cure)
    val = train.subset(np.flatnonzero(chosen))
    shown = ", ".join(val.names[:8]) + (f" and {len(val.names) - 8:,} more" if len(val.names) > 8 else "")
    aside = "; test is kept aside" if others else ""
    share = f"{data.val_fraction:.0%} of the pairs are held out of train (seed {seed})"
    notes.append(f"no validation split: {share}: {shown}{aside}")
    notes += said
    return {"train": train.subset(np.flatnonzero(~chosen)), "val": val, **others}
