"""Read the annotations of a folder, find their images, and divide them into splits."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from ...config.schema import Data
from ...errors import SightlineError, counted, some_of
from ..sources.scan import File, images_below, list_folder
from ..sources.splits import ALL, split_folders, split_of
from . import label_studio
from .checks import report
from .recognize import READERS, find
from .shapes import AnnotatedImage, FileContent

Found = tuple[File, AnnotatedImage]


@dataclass
class Annotations:
    """The annotations of a folder. format: value of `data.layout`. classes: those that the files list, in
    their order.
    splits: the images of each split with their files, sorted; `all` if there are no splits. notes: for the user."""

    format: str
    classes: tuple[str, ...]
    splits: dict[str, list[Found]]
    notes: list[str] = field(default_factory=list)


class ImageIndex:
    """The images below a folder, by path and by name."""

    def __init__(self, root: str, tally: Counter[str]):
        self.files = {file.name: file for file in images_below(root, "", tally)}
        self.by_name: dict[str, list[str]] = {}
        for path in self.files:
            self.by_name.setdefault(path.rpartition("/")[2], []).append(path)

    def find(self, name: str, folder: str, split: str) -> list[str]:
        """The images that `name` in an annotation file means; the file is in `folder` and is for `split`, or "".

        These are the image at this path, relative to the folder of the file or to the root; else all images whose path
        ends with it, preferably below a folder of the split.
        """
        exact = [posixpath.normpath(posixpath.join(base, name)) for base in (folder, "")]
        if known := [path for path in exact if path in self.files]:
            return known[:1]
        path = re.sub(r"^(\.\.?/)+", "", posixpath.normpath(name))
        ends = [each for each in self.by_name.get(path.rpartition("/")[2], ()) if f"/{each}".endswith(f"/{path}")]
        own = [each for each in ends if split and any(split_of(part) == split for part in each.split("/")[:-1])]
        return own or ends


def content_of(kind: str, path: str, name: str) -> tuple[FileContent, list[str]]:
    """(the content of an annotation file, its faults). name: its path relative to the data."""
    faults = list[str]()
    return READERS[kind][1](path, name, faults), faults


@lru_cache(maxsize=8)
def stored_content(kind: str, path: str, name: str, stamp: tuple[int, int]) -> tuple[FileContent, list[str]]:
    """`content_of`, stored for further calls. stamp: time and size, so that a changed file is read again."""
    return content_of(kind, path, name)


def read_annotations(root: str, data: Data, hold_out: bool) -> Annotations | None:
    """Read the annotations of `root`, and find their images; None if there are no annotation files.

    hold_out: whether the data are for training, which requires a training split. Raises SightlineError with all faults
    of the files; if an image cannot be found without doubt; or if no image can be found.
    """
    known = find(root, data)
    if known is None:
        return None
    (kind, files), tally, faults = known, Counter[str](), list[str]()
    title = READERS[kind][0]
    chosen, others = chosen_files(files, root) if kind == "coco" else (dict.fromkeys(files, ""), [])
    index = ImageIndex(root, tally)
    contents = []
    for file, split in chosen.items():
        path, name = os.path.join(root, file) if file else root, file.replace(os.sep, "/")
        status = os.stat(path)
        single = kind in ("coco", "cvat", "label_studio")  # all others have a file for each image
        stamp = (status.st_mtime_ns, status.st_size)
        content, found = stored_content(kind, path, name, stamp) if single else content_of(kind, path, name)
        faults += found
        contents.append((name, split, content))
    report(faults, title, root)
    matched, missing = match_images(contents, index, faults)
    report(faults, title, root)
    count = len(matched) + len(missing)
    if not matched:
        why = (
            f"{counted(count, 'image')} in the annotations, such as {missing[0]!r}" if missing else "they have no image"
        )
        cure = (
            "copy the images into this folder, or give the folder that has both images and annotations: --data FOLDER"
        )
        raise SightlineError(f"no image of the {title} annotations is in the folder", where=root, why=why, cure=cure)
    splits = splits_of(root, matched)
    if hold_out and not {ALL, "train"} & splits.keys():
        cure = (
            "add the annotations of the training images, or remove 'val' or 'test' from the names of files and folders"
        )
        what = f"the {title} annotations have no training split, only {' and '.join(splits)}"
        raise SightlineError(what, where=root, cure=cure)
    classes = tuple(dict.fromkeys(label for _, _, content in contents for label in content.classes))
    unused = sum((content.unused for _, _, content in contents), Counter[str]())
    shown = some_of([file or "labels/" for file, _, _ in contents])
    shapes = sum(len(image.shapes) for _, _, image in matched.values())
    note = f"found {title} annotations in {shown}: {counted(count, 'image')}, {counted(shapes, 'shape')}"
    kinds = [f"{number:,} x {what}" for what, number in unused.most_common() if number]
    notes = [note + (f"; not used: {', '.join(kinds)}" if kinds else "")]
    notes += [f"not used: {some_of(others)}"] if others else []
    if missing:
        notes.append(f"{counted(len(missing), 'image')} of the annotations not in the folder: {some_of(missing)}")
    unnamed = [path for path in index.files if path not in matched]
    if unnamed:
        notes.append(f"{counted(len(unnamed), 'image')} of the folder not in the annotations: {some_of(unnamed)}")
    return Annotations(kind, classes, splits, notes)


def chosen_files(files: list[str], root: str) -> tuple[dict[str, str], list[str]]:
    """The COCO files to use: ({file: split, or ""}, other files). A split is found in the name of the file, as in
    `instances_val2017.json`, or of its folder. Files whose names start with `instances` have priority."""
    instances = [file for file in files if os.path.basename(file).startswith("instances")]
    splits = {file: split_in_name(file) for file in instances or files}
    if any(splits.values()):
        splits = {file: split for file, split in splits.items() if split}
    if repeated := [file for file, split in splits.items() if list(splits.values()).count(split) > 1]:
        what = f"several COCO files are for the same images: {some_of(repeated)}"
        cure = "keep one of them, or name them by split, such as instances_train.json and instances_val.json"
        raise SightlineError(what, where=root, cure=cure)
    return splits, [file for file in files if file not in splits]


def split_in_name(file: str) -> str:
    """The split in a path such as `annotations/instances_train2017.json` or `valid/_annotations.coco.json`, or ""."""
    folder, name = os.path.split(file)
    words = [*re.split(r"[_\-. ]", os.path.splitext(name)[0]), *folder.split(os.sep)]
    return next((split for split in map(split_of, filter(None, words)) if split), "")


def match_images(
    contents: Iterable[tuple[str, str, FileContent]], index: ImageIndex, faults: list[str]
) -> tuple[dict[str, tuple[str, File, AnnotatedImage]], list[str]]:
    """Find the image files: ({path: (split or "", file, image)}, names that are not found). Paths that leave the
    folder, and images that are named twice or match several files, are added to `faults`."""
    matched: dict[str, tuple[str, File, AnnotatedImage]] = {}
    missing = []
    for file, of_file, content in contents:
        folder = posixpath.dirname(file)
        for image in content.images:
            split = of_file or image.split
            path = posixpath.normpath(posixpath.join(folder, image.file))
            if posixpath.isabs(image.file) or "\0" in image.file or path.startswith(".."):
                faults.append(f"{image.where}: {image.file!r} is a path outside of the data")
                continue
            original = label_studio.UPLOADED.sub("", image.file)
            found = index.find(image.file, folder, split) or index.find(original, folder, split)
            if not found:
                missing.append(image.file)
            elif len(found) > 1:
                faults.append(f"{image.where}: {image.file!r} matches several images: {some_of(found)}")
            elif found[0] in matched:
                other = matched[found[0]][2].where
                faults.append(f"{image.where}: {image.file!r} is the same image as at {other}")
            else:
                matched[found[0]] = (split, index.files[found[0]], image)
    return matched, missing


def splits_of(root: str, matched: dict[str, tuple[str, File, AnnotatedImage]]) -> dict[str, list[Found]]:
    """The images of each split: by the annotations if they give the split of every image, else by folders such as
    `train/` if every image is in one; else all images are one split."""
    folders = {folder: split for split, folder in split_folders(list_folder(root).folders, root, False).items()}
    named = {path: split_of(split, wide=True) or "" for path, (split, _, _) in matched.items()}
    placed = {path: folders.get(path.split("/")[0], "") for path in matched}
    chosen = next((each for each in (named, placed) if all(each.values())), dict.fromkeys(matched, ALL))
    splits: dict[str, list[Found]] = {}
    for path in sorted(matched):
        splits.setdefault(chosen[path], []).append(matched[path][1:])
    return {split: splits[split] for split in (ALL, "train", "val", "test") if split in splits}
