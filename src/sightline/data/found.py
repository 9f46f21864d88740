"""What a path was recognized as, before labels become indices."""

from collections import Counter
from dataclasses import dataclass, field

from .scan import File


@dataclass(frozen=True)
class Part:
    """The files of one split and the label of each; labels None: unlabelled."""

    files: list[File]
    labels: list[str] | None


@dataclass(frozen=True)
class Found:
    """What a path was recognized as. parts: by split, or the one part `all` where nothing names splits.

    classes: the order that a table gives, else empty. by_folder: folders name the classes. tally: what was left out.
    """

    layout: str
    parts: dict[str, Part]
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()
    by_folder: bool = False
    tally: Counter[str] = field(default_factory=Counter)
