"""Recognize the layout of image-mask pairs: two folders, one folder, or a template for the paths of masks."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import SightlineError, listing
from .layouts import require_images
from .scan import EXTENSIONS, File, holds_images, images_below, list_folder
from .splits import ALL, split_folders, split_of

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot")
IMAGE_END, MASK_END = "_sat", "_mask"
PARTNER = re.compile(rf"(.+?)[_\-. ]?({'|'.join(MASK_FOLDERS)})", re.IGNORECASE)
"""Pattern of a mask folder's name beside the images, such as `trainannot` or `train_labels` for `train`."""
PARTS = ("{stem}", "{id}", "{folder}")
TEMPLATE = (
    "describe the path of each mask relative to its image, such as --data.mask '{stem}_mask.png' or --data.mask "
    "'../masks/{stem}.png', where {stem} is the image's name without its extension, {id} is {stem} without its last "
    "part after `_`, and {folder} is the name of the image's folder"
)


class PairFiles(NamedTuple):
    """The files of one split of image-mask pairs. masks: None if the split has no masks. candidates: function from
    the name of an image to possible names of its mask. These have an extension only if `with_extension` is True."""

    layout: str
    images: list[File]
    masks: list[File] | None
    candidates: Callable[[str], list[str]]
    with_extension: bool = False


def named_as_masks(folder: str) -> bool:
    """Whether a folder's name is usual for masks, such as `masks` or `trainannot`."""
    return folder.lower() in MASK_FOLDERS or PARTNER.fullmatch(folder) is not None


def holds_pairs(path: str) -> bool:
    """Whether a folder contains image-mask pairs in a layout that is recognized without settings."""
    try:
        splits = recognize(absolute(path), Data(), Counter())
    except (SightlineError, OSError):
        return False
    return any(part.masks and part.images for part in splits.values())


def recognize(root: str, data: Data, tally: Counter[str]) -> dict[str, PairFiles]:
    """List the images and masks of each split; data without splits are one split `all`. Raises SightlineError if the
    layout is ambiguous."""
    folders = list_folder(root).folders
    partners = find_partners(root, folders)
    plain = tuple(name for name in folders if name not in partners.values())
    splits = split_folders(plain, root, forced=data.layout == "splits")
    if data.mask:
        check_template(data.mask)
        return {s: by_template(root, folder, data.mask, tally) for s, folder in (splits or {ALL: ""}).items()}
    if splits:
        return {split: split_pairs(root, folder, partners.get(folder), tally) for split, folder in splits.items()}
    images, masks = image_mask_folders(root, "") or ("", "")
    inner = split_folders(list_folder(root, images).folders, root, forced=False) if images else {}
    if not inner:
        return {ALL: split_pairs(root, "", None, tally)}
    inside = split_folders(list_folder(root, masks).folders, os.path.join(root, masks), forced=True)
    return {
        split: pairs_in_two_folders(root, f"{images}/{folder}", f"{masks}/{inside[split]}", tally)
        if split in inside
        else PairFiles("unlabelled", require_images(root, f"{images}/{folder}", tally), None, lambda name: [])
        for split, folder in inner.items()
    }


def find_partners(root: str, folders: tuple[str, ...]) -> dict[str, str]:
    """Map split folders to the folders of their masks beside them, as `train` to `trainannot`. Raises SightlineError
    if a split folder has two such folders."""
    partners: dict[str, str] = {}
    for name in folders:
        match = PARTNER.fullmatch(name)
        for split in folders if match and holds_images(root, name) else ():
            if match and match[1].lower() == split.lower() and split_of(split):
                if split in partners:
                    raise ambiguous_folders(root, [partners[split], name])
                partners[split] = name
    return partners


def ambiguous_folders(where: str, folders: list[str]) -> SightlineError:
    """The error for several folders that may contain the same images or masks."""
    what = f"several folders may contain the images or masks: {', '.join(map(repr, folders))}"
    return SightlineError(
        what, where=where, cure=f"keep one folder of images and one of masks, and move the rest away; or {TEMPLATE}"
    )


def split_pairs(root: str, below: str, partner: str | None, tally: Counter[str]) -> PairFiles:
    """List the pairs of a split. below: the folder of the split. The masks are in the folder `partner` if given,
    else in a subfolder of `below`, or in `below` itself."""
    folders = (below, partner) if partner else image_mask_folders(root, below)
    return pairs_in_two_folders(root, *folders, tally) if folders else pairs_in_one_folder(root, below, tally)


def image_mask_folders(root: str, below: str) -> tuple[str, str] | None:
    """(folder of images, folder of masks) in `root`/`below`; None if there is no folder of masks. The images may be
    directly in `below`. Raises SightlineError if there are several such folders."""
    here, found = list_folder(root, below), []
    for words in (IMAGE_FOLDERS, MASK_FOLDERS):
        paths = [posixpath.join(below, name) for name in here.folders if name.lower() in words]
        found.append([path for path in paths if holds_images(root, path)])
    images, masks = found
    if not masks or not (images or here.images):
        return None
    if len(images) > 1 or len(masks) > 1:
        raise ambiguous_folders(os.path.join(root, below), images + masks)
    return images[0] if images else below, masks[0]


def pairs_in_two_folders(root: str, images: str, masks: str, tally: Counter[str]) -> PairFiles:
    """List the images in one folder and the masks in another. Image and mask have the same relative path, except for
    the extension and the suffixes `_sat` and `_mask`."""
    files = [file for file in require_images(root, images, tally) if not file.name.startswith(f"{masks}/")]

    def candidates(name: str) -> list[str]:
        stem = f"{masks}/{os.path.splitext(name[len(images) + 1 :] if images else name)[0]}"
        base = stem.removesuffix(IMAGE_END)
        return list(dict.fromkeys((stem, base, stem + MASK_END, base + MASK_END)))

    return PairFiles("folders", files, images_below(root, masks, Counter() if not images else tally), candidates)


def pairs_in_one_folder(root: str, below: str, tally: Counter[str]) -> PairFiles:
    """List pairs in one folder: `0013_sat.jpg` or `0013.jpg` with `0013_mask.png`; or images without masks."""
    files = require_images(root, below, tally)
    masks = [file for file in files if os.path.splitext(file.name)[0].endswith(MASK_END)]

    def candidates(name: str) -> list[str]:
        stem = os.path.splitext(name)[0]
        return list(dict.fromkeys((stem + MASK_END, stem.removesuffix(IMAGE_END) + MASK_END)))

    images = sorted({*files} - {*masks})
    return PairFiles("pairs", images, masks, candidates) if masks else PairFiles("unlabelled", files, None, candidates)


def check_template(template: str) -> None:
    """Raise SightlineError with all faults in `data.mask`, the template for the paths of masks."""
    faults = [f"unknown placeholder {part}" for part in re.findall(r"\{[^}]*\}?", template) if part not in PARTS]
    if "{stem}" not in template and "{id}" not in template:
        faults.append("it must contain {stem} or {id}")
    if os.path.isabs(template):
        faults.append("it must be a path relative to the image's folder, not an absolute one")
    if not template.lower().endswith(EXTENSIONS):
        faults.append("it must end with the extension of an image, such as {stem}_mask.png")
    if faults:
        why = "\n" + listing(faults)
        raise SightlineError(
            f"invalid template {template!r} for the paths of masks", where="data.mask", why=why, cure=TEMPLATE
        )


def mask_path(name: str, template: str, root: str = "") -> str:
    """The path of an image's mask by a template, relative to `root`. For example, the image `a/1_sat.jpg` with the
    template `{id}_mask.png` has the mask `a/1_mask.png`."""
    folder, file = os.path.split(name)
    stem = os.path.splitext(file)[0]
    values = {"{stem}": stem, "{id}": stem.rpartition("_")[0] or stem, "{folder}": os.path.basename(folder or root)}
    filled = re.sub("|".join(map(re.escape, PARTS)), lambda match: values[match[0]], template)
    return os.path.normpath(os.path.join(folder, filled)).replace(os.sep, "/")


def by_template(root: str, below: str, template: str, tally: Counter[str]) -> PairFiles:
    """List images and their masks by the template `data.mask`. Files that match the template are masks."""
    shape = re.escape(re.sub(r"^(\.{1,2}/)+", "", template))
    for part in PARTS:
        shape = shape.replace(re.escape(part), "[^/]+")
    is_mask = re.compile(f"(?:.*/)?{shape}", re.DOTALL).fullmatch
    files = require_images(root, below, tally)
    images = [file for file in files if not is_mask(file.name)]
    if not images:
        why = (
            f"all {len(files):,} image files match the template, and therefore count as masks, such as "
            f"{files[0].name!r}"
        )
        raise SightlineError(
            f"there are masks, but no images, by the template --data.mask {template!r}",
            where=root,
            why=why,
            cure=TEMPLATE,
        )
    found = {file for file in files if is_mask(file.name)}
    targets = {os.path.dirname(mask_path(file.name, template, root)) for file in images}
    for folder in targets - {os.path.dirname(file.name) for file in files}:
        if os.path.isdir(os.path.join(root, folder)):
            found |= {file for file in list_folder(root, folder, Counter()).images if is_mask(file.name)}
    masks = sorted(found) or None
    return PairFiles("template", images, masks, lambda name: [mask_path(name, template, root)], with_extension=True)
