"""Read the annotations of a folder, find their images, and divide them into splits."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..sources.scan import File, images_below, list_folder
from ..sources.splits import ALL, split_folders, split_of
from .checks import report
from .label_studio import UPLOADED, renamed
from .recognize import READERS, find
from .shapes import AnnotatedImage, FileContent

Found = tuple[File, AnnotatedImage]


@dataclass
class Annotations:
    """The annotations of a folder. format: value of `data.layout`. classes: those that the files list, in their order.
    splits: the images of each split with their files, sorted; `all` if there are no splits. notes: for the user."""

    format: str
    classes: tuple[str, ...]
    splits: dict[str, list[Found]]
    notes: list[str] = field(default_factory=list)


def read_file(kind: str, path: str, name: str, stamp: tuple[int, int]) -> tuple[FileContent, list[str]]:
    """(the content of an annotation file, its faults). name: its path relative to the data. stamp: time and size."""
    faults = list[str]()
    return READERS[kind][1](path, name, faults), faults


stored_content = lru_cache(maxsize=8)(read_file)


def read_annotations(root: str, data: Data, hold_out: bool) -> Annotations | None:
    """Read the annotations of `root`, and find their images; None if there are no annotation files.

    hold_out: whether the data are for training, which requires a training split. Raises SightlineError with all faults
    of the files; if an image cannot be found without doubt; or if no image can be found.
    """
    known = find(root, data)
    if known is None:
        return None
    (kind, files), faults = known, list[str]()
    title, contents = READERS[kind][0], list[tuple[str, str, FileContent]]()
    chosen = chosen_files(files, root) if kind == "coco" else splits_of_files(kind, files)
    for file, split in chosen.items():
        status = os.stat(path := os.path.join(root, file))
        stamp = (status.st_mtime_ns, status.st_size)
        single = kind in ("coco", "cvat", "label_studio")  # all others have a file for each image
        content, found = (stored_content if single else read_file)(kind, path, file.replace(os.sep, "/"), stamp)
        faults += found
        contents.append((file.replace(os.sep, "/"), split, content))
    report(faults, title, root)
    images = {file.name: file for file in images_below(root, "", Counter())}
    matched, missing = match_images(contents, [*images], faults)
    report(faults, title, root)
    if not matched:
        why = f"they name {', '.join(map(repr, missing[:3])) or 'no image'}"
        cure = (
            "give the folder that has both: --data FOLDER; or choose another --data.layout, such as splits or classes"
        )
        raise SightlineError(f"no image of the {title} annotations is in the folder", where=root, why=why, cure=cure)
    splits: dict[str, list[Found]] = {}
    for path, split in splits_of(root, matched).items():
        splits.setdefault(split, []).append((images[path], matched[path][1]))
    if hold_out and not {ALL, "train"} & splits.keys():
        what = f"the {title} annotations have no training split, only {' and '.join(splits)}"
        cure = "add the annotations of the training images, or rename the files or folders of the split"
        raise SightlineError(what, where=root, cure=cure)
    shapes, unused = sum(len(image.shapes) for _, image in matched.values()), Counter[str]()
    for _, _, content in contents:
        unused.update(content.unused)
    note = f"found {title} annotations in {some_of([*chosen])}: {counted(len(matched) + len(missing), 'image')}, "
    kinds = [f"{number:,} x {what}" for what, number in unused.most_common() if number]
    notes = [f"{note}{counted(shapes, 'shape')}{'; not used: ' * bool(kinds)}{', '.join(kinds)}"]
    about = {
        "images of the annotations that are not in the folder": missing,
        "images in the folder that are not in the annotations": [path for path in images if path not in matched],
        "further files, which are not used": [file for file in files if file not in chosen],
    }
    notes += [f"{what}: {len(names):,} ({some_of(names)})" for what, names in about.items() if names]
    classes = dict.fromkeys(label for _, _, content in contents for label in content.classes)
    return Annotations(kind, tuple(classes), splits, notes)


def chosen_files(files: list[str], root: str) -> dict[str, str]:
    """The COCO files to use, with the split of each, or "". A split is found in the name of the file, as in
    `instances_val2017.json`, or of its folder. Files whose names start with `instances` have priority."""
    instances = [file for file in files if os.path.basename(file).startswith("instances")]
    splits = {file: split_in_name(file) for file in instances or files}
    if any(splits.values()):
        splits = {file: split for file, split in splits.items() if split}
    if repeated := [file for file, split in splits.items() if list(splits.values()).count(split) > 1]:
        what = f"several COCO files are for the same images: {some_of(repeated)}"
        cure = "keep one of them, or name them by split, such as instances_train.json and instances_val.json"
        raise SightlineError(what, where=root, cure=cure)
    return splits


def splits_of_files(kind: str, files: list[str]) -> dict[str, str]:
    """The split of each file of CVAT or Label Studio by its name, as in `train.xml` and `val.xml`, or "". The names
    count if `train` is among the splits, and all files or one of another split have a split."""
    splits = {file: split_in_name(file) for file in files}
    found = {*splits.values()}
    known = kind in ("cvat", "label_studio") and "train" in found and (all(found) or found & {"val", "test"})
    return splits if known else dict.fromkeys(files, "")


def split_in_name(file: str) -> str:
    """The split in a path such as `annotations/instances_train2017.json` or `valid/_annotations.coco.json`, or ""."""
    folder, name = os.path.split(file)
    words = [*re.split(r"[_\-. ]", os.path.splitext(name)[0]), *folder.split(os.sep)]
    return next((split for split in map(split_of, filter(None, words)) if split), "")


def match_images(
    contents: Iterable[tuple[str, str, FileContent]], paths: Sequence[str], faults: list[str]
) -> tuple[dict[str, tuple[str, AnnotatedImage]], list[str]]:
    """Find the annotated images among `paths`: ({path: (split or "", image)}, names that are not found).

    An image is at its path relative to the annotation file or to the root; else it is the only one whose path ends with
    it, preferably in a folder of the split. Paths that leave the folder, and images that are named twice or match
    several files, are added to `faults`.
    """
    known, by_name, missing = set(paths), dict[str, list[str]](), []
    matched: dict[str, tuple[str, AnnotatedImage]] = {}
    for path in paths:
        by_name.setdefault(renamed(path.rpartition("/")[2]), []).append(path)

    def candidates(name: str, folder: str, split: str) -> list[str]:
        exact = [posixpath.normpath(posixpath.join(base, name)) for base in (folder, "")]
        if found := [path for path in exact if path in known]:
            return found[:1]
        end = re.sub(r"^(\.\.?/)+", "", posixpath.normpath(name))
        alike = by_name.get(renamed(end.rpartition("/")[2]), ())
        alike = [each for each in alike if f"/{renamed(each)}".endswith(f"/{renamed(end)}")]
        found = [each for each in alike if f"/{each}".endswith(f"/{end}")] or alike
        return [each for each in found if split and split in map(split_of, each.split("/")[:-1])] or found

    for file, of_file, content in contents:
        folder = posixpath.dirname(file)
        for image in content.images:
            split, name = of_file or image.split, image.file.replace("\\", "/")
            found = candidates(name, folder, split) or candidates(UPLOADED.sub("", name), folder, split)
            if posixpath.isabs(name) or "\0" in name or posixpath.normpath(posixpath.join(folder, name))[:2] == "..":
                faults.append(f"{image.where}: {name!r} is a path outside of the data")
            elif len(found) > 1:
                faults.append(f"{image.where}: {name!r} matches several images: {some_of(found)}")
            elif found and found[0] in matched:
                faults.append(f"{image.where}: {name!r} is the same image as at {matched[found[0]][1].where}")
            elif found:
                matched[found[0]] = (split, image)
            else:
                missing.append(name)
    return matched, missing


def splits_of(root: str, matched: dict[str, tuple[str, AnnotatedImage]]) -> dict[str, str]:
    """The split of each image, in the order of paths: by the annotations if they give the split of every image, else by
    folders such as `train/` if every image is in one; else all images are one split.

    Raises SightlineError if only some images have a split, and it is val or test for one of them.
    """
    folders = {folder: split for split, folder in split_folders(list_folder(root).folders, root, False).items()}
    paths = sorted(matched)
    named = {path: split_of(matched[path][0], wide=True) for path in paths}
    placed = {path: folders.get(path.split("/")[0]) for path in paths}
    for splits in (named, placed):
        if all(splits.values()):
            return {path: split for path, split in splits.items() if split}
    for splits in (named, placed):
        if {*splits.values()} & {"val", "test"}:
            bare = [f"{path} (annotated in {matched[path][1].where})" for path, split in splits.items() if not split]
            what = f"{len(bare):,} of {len(paths):,} annotated images have no split, and the others have one"
            cure = "give each image a split: a subset in CVAT, an annotation file such as train.xml, or a folder such "
            cure += "as train/ in the data; or move these images and their annotations out of the data"
            raise SightlineError(what, where=root, why="\n" + listing(bare), cure=cure)
    return dict.fromkeys(paths, ALL)
