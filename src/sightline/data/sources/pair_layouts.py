"""Where the images and masks of each split lie: folders side by side, one within the other, one folder, a template."""

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, listing
from .layouts import no_images
from .scan import EXTENSIONS, File, holds_images, images_below, shelf
from .splits import WHOLE, split_folders, split_of

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot")
IMAGE_END, MASK_END = "_sat", "_mask"
PARTNER = re.compile(rf"(.+?)[_\-. ]?({'|'.join(MASK_FOLDERS)})", re.IGNORECASE)
"""`trainannot` and `train_labels` hold the masks of `train`."""
PARTS = ("{stem}", "{id}", "{folder}")
TEMPLATE = (
    "say where an image's mask lies: --data.mask '{stem}_mask.png', or '../masks/{stem}.png'; {stem} is the image's "
    "name without its ending, {id} the stem without its last _part, {folder} the name of the image's folder"
)


def named_as_masks(folder: str) -> bool:
    """Whether a folder is called as folders of masks are: `masks`, `trainannot`."""
    return folder.lower() in MASK_FOLDERS or PARTNER.fullmatch(folder) is not None


def holds_pairs(path: str) -> bool:
    """Whether images with their masks lie there, in any layout that needs no template."""
    try:
        places = recognize(absolute(path), Data(), Counter())
    except (SightlineError, OSError):
        return False
    return any(place.masks and place.images for place in places.values())


class Place(NamedTuple):
    """Where one split lies. masks: all that may be, None where there are none.

    wanted: what an image's mask may be called, by the image's name; in full if `whole`, else without the ending.
    """

    layout: str
    images: list[File]
    masks: list[File] | None
    wanted: Callable[[str], list[str]]
    whole: bool = False


def recognize(root: str, data: Data, tally: Counter[str]) -> dict[str, Place]:
    """Split -> where its images and masks lie; the one split `all` where nothing names splits."""
    here = shelf(root)
    partners = find_partners(root, here.folders)
    plain = tuple(name for name in here.folders if name not in partners.values())
    splits = split_folders(plain, root, forced=data.layout == "splits")
    if data.mask:
        check_template(data.mask)
        return {s: by_template(root, folder, data.mask, tally) for s, folder in (splits or {WHOLE: ""}).items()}
    if splits:
        return {split: place_of(root, folder, partners.get(folder), tally) for split, folder in splits.items()}
    images, masks = twins(root, "") or ("", "")
    inner = split_folders(shelf(root, images).folders, root, forced=False) if images else {}
    if not inner:
        return {WHOLE: place_of(root, "", None, tally)}
    inside = split_folders(shelf(root, masks).folders, os.path.join(root, masks), forced=True)
    return {
        split: apart(root, f"{images}/{folder}", f"{masks}/{inside[split]}", tally)
        if split in inside
        else bare(root, f"{images}/{folder}", tally)
        for split, folder in inner.items()
    }


def find_partners(root: str, folders: tuple[str, ...]) -> dict[str, str]:
    """Folder of a split -> the folder of its masks, as `train` -> `trainannot`."""
    found: dict[str, list[str]] = {}
    for name in folders:
        match = PARTNER.fullmatch(name)
        for split in folders if match and holds_images(root, name) else ():
            if match and match[1].lower() == split.lower() and split_of(split):
                found.setdefault(split, []).append(name)
    several = [f"{split!r}: {' or '.join(map(repr, names))}" for split, names in found.items() if len(names) > 1]
    if several:
        why = "\n" + listing(several)
        raise SightlineError("it is not clear which folder holds the masks", where=root, why=why, cure=TEMPLATE)
    return {split: names[0] for split, names in found.items()}


def place_of(root: str, below: str, partner: str | None, tally: Counter[str]) -> Place:
    """The pairs of one split: masks in the folder `partner`, in a folder inside, or beside the images."""
    inside = None if partner else twins(root, below)
    if partner or inside:
        return apart(root, *(inside or (below, partner or "")), tally)
    return together(root, below, tally)


def twins(root: str, below: str) -> tuple[str, str] | None:
    """(folder of images, folder of masks) in `root`/`below`, or None. Images may also lie loose beside the masks."""
    here, found = shelf(root, below), []
    for words in (IMAGE_FOLDERS, MASK_FOLDERS):
        paths = [f"{below}/{name}" if below else name for name in here.folders if name.lower() in words]
        found.append([path for path in paths if holds_images(root, path)])
    images, masks = found
    if not masks or not (images or here.images):
        return None
    if len(images) > 1 or len(masks) > 1:
        raise SightlineError(
            "it is not clear which folder holds the images and which the masks",
            where=os.path.join(root, below),
            why=f"found {', '.join(map(repr, images + masks))}",
            cure=TEMPLATE,
        )
    return images[0] if images else below, masks[0]


def found_below(root: str, below: str, tally: Counter[str]) -> list[File]:
    """All images below a folder; SightlineError where there are none."""
    files = images_below(root, below, tally)
    if not files:
        raise no_images(os.path.join(root, below) if below else root, tally)
    return files


def bare(root: str, below: str, tally: Counter[str]) -> Place:
    """Images without masks."""
    return Place("unlabelled", found_below(root, below, tally), None, lambda name: [])


def apart(root: str, images: str, masks: str, tally: Counter[str]) -> Place:
    """Images in one folder and masks in another, at the same path but for the ending, `_sat` and `_mask`."""
    found = [file for file in found_below(root, images, tally) if not file.name.startswith(f"{masks}/")]

    def wanted(name: str) -> list[str]:
        stem = f"{masks}/{os.path.splitext(name[len(images) + 1 :] if images else name)[0]}"
        base = stem.removesuffix(IMAGE_END)
        return list(dict.fromkeys((stem, base, stem + MASK_END, base + MASK_END)))

    return Place("folders", found, images_below(root, masks, Counter() if not images else tally), wanted)


def together(root: str, below: str, tally: Counter[str]) -> Place:
    """Images and masks in one folder: `0013_sat.jpg` or `0013.jpg` with `0013_mask.png`; else images alone."""
    files = found_below(root, below, tally)
    masks = [file for file in files if os.path.splitext(file.name)[0].endswith(MASK_END)]

    def wanted(name: str) -> list[str]:
        stem = os.path.splitext(name)[0]
        return list(dict.fromkeys((stem + MASK_END, stem.removesuffix(IMAGE_END) + MASK_END)))

    images = sorted({*files} - {*masks})
    return Place("pairs", images, masks, wanted) if masks else Place("unlabelled", files, None, wanted)


def check_template(template: str) -> None:
    """SightlineError where `data.mask` cannot lead from an image to its mask."""
    faults = [f"{part} has no meaning" for part in re.findall(r"\{[^}]*\}?", template) if part not in PARTS]
    if "{stem}" not in template and "{id}" not in template:
        faults.append("it needs {stem} or {id}")
    if os.path.isabs(template):
        faults.append("it must be relative to the image's folder")
    if not template.lower().endswith(EXTENSIONS):
        faults.append("it must end like an image file, as {stem}_mask.png does")
    if faults:
        why = "\n" + listing(faults)
        raise SightlineError(f"the template {template!r} is wrong", where="data.mask", why=why, cure=TEMPLATE)


def mask_path(name: str, template: str, root: str = "") -> str:
    """The mask's path relative to the root, for an image's: `a/1_sat.jpg` with `{id}_mask.png` gives `a/1_mask.png`."""
    folder, file = os.path.split(name)
    stem = os.path.splitext(file)[0]
    values = {"{stem}": stem, "{id}": stem.rpartition("_")[0] or stem, "{folder}": os.path.basename(folder or root)}
    filled = re.sub("|".join(map(re.escape, PARTS)), lambda match: values[match[0]], template)
    return os.path.normpath(os.path.join(folder, filled)).replace(os.sep, "/")


def by_template(root: str, below: str, template: str, tally: Counter[str]) -> Place:
    """Images below a folder, and masks where the template says. Files that look like its masks are no images."""
    shape = re.escape(re.sub(r"^(\.{1,2}/)+", "", template))
    for part in PARTS:
        shape = shape.replace(re.escape(part), "[^/]+")
    looks = re.compile(f"(?:.*/)?{shape}", re.DOTALL)
    files = found_below(root, below, tally)
    images = [file for file in files if not looks.fullmatch(file.name)]
    if not images:
        where, why = os.path.join(root, below), f"all {len(files):,} images look like masks of it, as {files[0].name!r}"
        raise SightlineError(f"no images for the template {template!r}", where=where, why=why, cure=TEMPLATE)
    listed = {file.name: file for file in files if looks.fullmatch(file.name)}
    targets = {os.path.dirname(mask_path(file.name, template, root)) for file in images}
    for folder in sorted(targets - {os.path.dirname(file.name) for file in files}):
        inside = shelf(root, folder, Counter()).images if os.path.isdir(os.path.join(root, folder)) else ()
        listed |= {file.name: file for file in inside if looks.fullmatch(file.name)}
    masks = [listed[name] for name in sorted(listed)] or None
    return Place("template", images, masks, lambda name: [mask_path(name, template, root)], whole=True)
