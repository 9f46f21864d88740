"""Findings: the kinds of errors in data, the affected files, and the cures."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

STOPS = "training would stop with an error"
SKIP = "; or train without a few of them: --data.on_bad_image skip"
CLEAN = "; or write a table of the other images: --fix"
"""SKIP and CLEAN are cures that data of some kinds do not have."""


class FindingKind(NamedTuple):
    """The texts of a kind of finding. what: is printed after a number; * becomes s in the plural."""

    severity: Literal["error", "warning"]
    what: str
    why: str
    cure: str


KINDS = {
    "unreadable": FindingKind("error", "unreadable image*", STOPS,
        "copy these images again or remove them" + SKIP + CLEAN),
    "wrong_extension": FindingKind("warning", "file* of another format than the extension",
        "Sightline reads such files by their content; other programs may fail, or take a lossy file for a lossless one",
        "rename these files by their content: mv NAME.jpg NAME.png"),
    "tiny": FindingKind("warning", "tiny image*",
        "the median image has about {median} pixels; the tiny images have no detail once they are enlarged",
        "look at these images: remove icons, previews and failed downloads, and find the originals of the rest"),
    "huge": FindingKind("warning", "huge image*",
        "the median image has about {median} pixels; the huge images decode slowly, and are scaled down far more",
        "look at these images: crop them to the relevant part, or save them at a smaller size"),
    "long": FindingKind("warning", "image* far longer in one direction than the others",
        "the model sees only the middle of a long image (--data.fit crop), or a distorted image (--data.fit squash)",
        "crop these images to the relevant part, or set --data.fit crop or --data.fit squash, whichever loses less"),
    "plain": FindingKind("warning", "image* of a single color",
        "a model cannot learn anything from such an image",
        "remove these images, unless a class consists of empty images"),
    "transparent": FindingKind("warning", "image* with transparency, unlike the others",
        "transparent pixels become white, unlike the background of the opaque images",
        "composite the transparent images on the background of the opaque ones"),
    "other_pixels": FindingKind("error", "image* with other channels or bits than most", "{counts}; " + STOPS,
        "convert or remove these images; or convert all images to 8-bit RGB: --data.channels rgb" + CLEAN),
    "no_data": FindingKind("warning", "image* mostly without data",
        "values without data are 0 for the network; segmentation ignores pixels without data in all channels",
        "look at these images; remove those that have nothing to learn from"),
    "cmyk": FindingKind("warning", "image* in CMYK or Lab, unlike the others",
        "these images are converted to RGB without their color profile, so that their colors differ from those of "
        "the other images",
        "convert these images to RGB with their color profile in an image editor"),
    "rotated": FindingKind("warning", "image* stored rotated or mirrored, with an EXIF orientation",
        "Sightline rotates such images upright; other programs may not, and masks drawn in them would not fit",
        "save these images upright: mogrify -auto-orient FILE"),
    "gray": FindingKind("warning", "gray image* among color images", "a model that depends on color may fail on them",
        "replace these images by color images, or train on some images in gray: --augment.grayscale 0.1"),
    "frames": FindingKind("warning", "image* with several frames or pages",
        "only the first frame or page of a file is used", "save each relevant frame or page as a separate image"),
    "exif": FindingKind("warning", "image* with a damaged EXIF block",
        "the orientation in the block may be lost, and other programs may fail to read the image",
        "check that these images are upright, then remove the block: mogrify -strip FILE"),
    "conflicting_labels": FindingKind("error", "image* with several labels",
        "identical images with different labels cannot both be right, and no model can learn them",
        "correct the labels{clean}"),
    "leak": FindingKind("error", "image* in several splits",
        "the model is evaluated on images that it was trained on: its scores are too high",
        "remove these images from train{clean}"),
    "duplicate": FindingKind("warning", "image* more than once in a split",
        "such an image counts several times; if a validation split is held out later, it may contain training images",
        "keep one file of each image and remove its copies{clean}"),
    "near_leak": FindingKind("warning", "set* of near copies in several splits",
        "the model is trained on near copies of validation images: the scores may be too high",
        "look at these images; move each set, such as the frames of one video, to a single split"),
    "film_leak": FindingKind("warning", "film* or scene* with images in several splits",
        "validation shares its films with training: the scores are those for films that the model knows, and are lower "
        "for new ones",
        "hold out complete films: move each to a single split, or give data without splits and {films}"),
    "film_unsplit": FindingKind("warning", "film* or scene* that a random split would divide",
        "a validation split that is held out at random shares its films with training: its scores are those for films "
        "that the model knows, and are lower for new ones",
        "keep the images of a film together: {films}"),
    "near_duplicate": FindingKind("warning", "set* of near copies within a split",
        "a set counts several times; a random split puts copies into train and val; look at sets with two labels",
        "look at these images; keep one of each set and remove the rest{frames}"),
    "altered_leak": FindingKind("warning", "set* of crops or mirror images in several splits",
        "the model is trained on parts or mirror images of validation images: the scores may be too high",
        "look at these images; move each set to a single split"),
    "altered_duplicate": FindingKind("warning", "set* of crops or mirror images within a split",
        "a set counts several times; a random split puts its images into train and val; look at sets with two labels",
        "look at these images; keep one of each set and remove the rest"),
    "suspicious_label": FindingKind("warning", "label* that may be wrong",
        "a logistic regression on features of {model}, fitted to other images, predicts another class; a part of these "
        "are mistakes of the regression (measured in docs/doctor.md)",
        "look at these images; if a label is wrong, move the image to the folder of its class or correct its row"),
    "hidden": FindingKind("warning", "hidden path* with images",
        "Sightline skips hidden files and folders; other programs may take such a folder for a class",
        "remove these paths: rm -r PATH"),
    "not_used": FindingKind("warning", "image* without an image extension",
        "Sightline does not use such files",
        "rename them with an extension, such as .png or .jpg; convert HEIC and AVIF first"),
    "image_without_mask": FindingKind("error", "image* without a mask", STOPS, "{cure}"),
    "mask_without_image": FindingKind("error", "mask* without an image", STOPS, "{cure}"),
    "ambiguous_pair": FindingKind("error", "ambiguous pair*", STOPS, "{cure}"),
    "unreadable_mask": FindingKind("error", "unreadable mask*", STOPS, "{cure}"),
    "mask": FindingKind("error", "unusable mask*", STOPS, "{cure}"),
    "mask_size": FindingKind("error", "mask* of another size than the image", STOPS, "{cure}"),
    "empty_mask": FindingKind("warning", "mask* with ignored pixels only",
        "training skips such pairs, and they do not change the validation metrics",
        "annotate these images, or remove the pairs"),
    "wrong_label": FindingKind("warning", "validation label* that may be wrong",
        "the model, which was not trained on these images, predicts another class; a part of these are mistakes of the "
        "model, a larger part the fewer labels are wrong (measured in docs/claims.md)",
        "look at these images; if a label is wrong, move the image to the folder of its class or correct its row; "
        "train again"),
}  # fmt: skip
"""The kinds of findings with fixed texts, in which {words} are replaced. Findings on the layout of the data,
palettes and classes have their texts elsewhere."""


class Picture(NamedTuple):
    """An image as a network gets it, with the name of its file and its label."""

    image: Image.Image
    name: str
    label: str


@dataclass(frozen=True)
class Group:
    """One or several files that a finding lists together, such as the copies of one image, with a note about them."""

    files: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of error in the data, with all affected files.

    kind: an identifier, such as a key of KINDS. severity: `error` if training stops or its scores are wrong, else
    `warning`. what, why: one sentence each. cure: a command or an edit. groups: the files, the most important first.
    """

    kind: str
    severity: Literal["error", "warning"]
    what: str
    why: str
    cure: str
    groups: tuple[Group, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all affected files, each once, in order."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.files))


@dataclass(frozen=True)
class Diagnosis:
    """The result of `sightline doctor`.

    data: what was checked: a folder, another source or a run. task: `classify`, `segment`, or `labels` for the labels
    of a run. counts: number of images by split. checks: descriptions of what was checked. notes: sentences on how the
    data were read. page, json: the files that were written. clean_list: the path of the clean list, or None.
    understood: what was understood of the data, as texts by topic. pictures: a few images as a network gets them.
    colors: of the classes in pictures with masks. In a condition, it is true if there are findings.
    """

    data: str
    task: str
    counts: dict[str, int]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    page: Path
    json: Path
    clean_list: Path | None = None
    understood: dict[str, str] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)


def finding(kind: str, groups: Iterable[Group], **words: str) -> list[Finding]:
    """Make a finding of a kind in KINDS: a list of one Finding; an empty list if there are no `groups`. words: texts
    that replace {words} in the texts of the kind."""
    groups, (severity, what, why, cure) = tuple(groups), KINDS[kind]
    what = f"{len(groups):,} {what.replace('*', '' if len(groups) == 1 else 's')}"
    return [Finding(kind, severity, what, why.format(**words), cure.format(**words), groups)] if groups else []
