"""Findings: the kinds of errors in data, the affected files, and the cures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

STOPS = "training would stop with an error"


class FindingKind(NamedTuple):
    """The texts of a kind of finding. what: is printed after a number; * becomes s in the plural."""

    severity: Literal["error", "warning"]
    what: str
    why: str
    cure: str


KINDS = {
    "unreadable": FindingKind("error", "unreadable image*", STOPS,
        "copy them again or remove them; --data.on_bad_image skip leaves out a few; --write-clean-list clean.csv"),
    "wrong_extension": FindingKind("warning", "file* of another format than the extension",
        "they are read by their content here; other tools may fail, or read lossy files as lossless",
        "rename them: mv NAME.jpg NAME.png"),
    "tiny": FindingKind("warning", "tiny image*",
        "the median image has about {median} pixels; enlarged, these have no detail",
        "look at them: remove icons, previews and failed downloads; find the originals of the others"),
    "huge": FindingKind("warning", "huge image*",
        "the median image has about {median} pixels; these decode slowly, and are scaled down far more",
        "look at them: crop them to the relevant part, or save them smaller"),
    "long": FindingKind("warning", "image* far longer in one direction than the others",
        "the model sees their middle only (--data.fit crop), or sees them distorted (--data.fit squash)",
        "crop them to the relevant part, or change --data.fit"),
    "plain": FindingKind("warning", "image* of a single color",
        "there is nothing in them to learn from", "remove them, unless a class consists of empty images"),
    "transparent": FindingKind("warning", "image* with transparency, unlike the others",
        "transparent pixels become white, unlike the background of the others",
        "composite them on the same background"),
    "deep": FindingKind("warning", "image* with 16 or more bits per channel, unlike the others",
        "they are scaled to 8 bits, and become dark where a sensor used few of them",
        "stretch and save them like the others: 8-bit PNG or JPEG"),
    "cmyk": FindingKind("warning", "image* in CMYK, unlike the others",
        "they are converted without their color profile, and their colors differ from those of the others",
        "convert them to RGB with their profile in an image editor"),
    "rotated": FindingKind("warning", "image* stored rotated or mirrored, with an EXIF orientation",
        "they are turned upright here; other tools, and masks drawn with these, may show them as stored",
        "save them upright: mogrify -auto-orient FILE"),
    "gray": FindingKind("warning", "gray image* among color images", "a model that depends on color may fail on them",
        "replace them by color images, or train with --augment.grayscale 0.1"),
    "frames": FindingKind("warning", "image* with several frames or pages",
        "only the first one is used", "save each relevant frame as a separate image"),
    "exif": FindingKind("warning", "image* with a damaged EXIF block",
        "their orientation may be lost, and other tools may fail to read them",
        "check that they are upright, then save them without it: mogrify -strip FILE"),
    "conflicting_labels": FindingKind("error", "image* with several labels",
        "identical images with different labels cannot both be right, and no model can learn them",
        "correct the labels{clean}"),
    "leak": FindingKind("error", "image* in several splits",
        "the model is validated on what it was trained on: its scores are too high", "remove them from train{clean}"),
    "duplicate": FindingKind("warning", "image* more than once in a split",
        "they count several times; a validation split that is held out later may contain copies of training images",
        "remove all but one of each{clean}"),
    "near_leak": FindingKind("warning", "set* of near copies in several splits",
        "the model is trained on near copies of validation images: the scores may be too high",
        "look at them; keep each set, such as the frames of one video, in one split"),
    "near_duplicate": FindingKind("warning", "set* of near copies within a split",
        "they count several times, and leak if split at random; if a set has two labels, one is likely wrong",
        "look at them; remove all but one of each{frames}"),
    "hidden": FindingKind("warning", "hidden path* with images",
        "they are skipped here; other tools may use such a folder as a class",
        "remove them: rm -r PATH"),
    "not_used": FindingKind("warning", "image* without an image extension",
        "they are not used", "rename them with an extension, such as .png or .jpg; convert HEIC and AVIF first"),
    "image_without_mask": FindingKind("error", "image* without a mask", STOPS, "{cure}"),
    "mask_without_image": FindingKind("error", "mask* without an image", STOPS, "{cure}"),
    "ambiguous_pair": FindingKind("error", "ambiguous pair*", STOPS, "{cure}"),
    "unreadable_mask": FindingKind("error", "unreadable mask*", STOPS, "{cure}"),
    "mask": FindingKind("error", "unusable mask*", STOPS, "{cure}"),
    "mask_size": FindingKind("error", "mask* of another size than the image", STOPS, "{cure}"),
    "empty_mask": FindingKind("warning", "mask* with ignored pixels only",
        "nothing can be learned from them: training skips them, and they do not change the validation metrics",
        "annotate these images, or remove the pairs"),
    "wrong_label": FindingKind("warning", "likely wrong validation label*",
        "the model was not trained on these images, and predicts another class with more confidence than usual for it",
        "look at them; move an image to the class that it shows, or correct its row, and train again"),
}  # fmt: skip
"""The kinds of findings with fixed texts, in which {words} are replaced. Findings on the layout of the data,
palettes and classes have their texts elsewhere."""


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
    data were read. page, json: the files that were written. clean_list: the path of the clean list, or None. In a
    condition, it is true if there are findings.
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

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)


def finding(kind: str, groups: Iterable[Group], **words: str) -> list[Finding]:
    """Make a finding of a kind in KINDS: a list of one Finding; an empty list if there are no `groups`. words: texts
    that replace {words} in the texts of the kind."""
    groups, (severity, what, why, cure) = tuple(groups), KINDS[kind]
    what = f"{len(groups):,} {what.replace('*', '' if len(groups) == 1 else 's')}"
    return [Finding(kind, severity, what, why.format(**words), cure.format(**words), groups)] if groups else []
