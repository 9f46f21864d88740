"""What a path was recognized as, before labels become indices."""

from collections import Counter
from dataclasses import dataclass, field

from ...errors import counted
from .scan import File


@dataclass(frozen=True)
class Part:
    """The files of one split and the label of each; labels None: unlabelled. groups: what each belongs to, where a
    table says so."""

    files: list[File]
    labels: list[str] | None
    groups: list[str] | None = None


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


def without_links(part: Part) -> tuple[Part, list[tuple[str, str]]]:
    """The part with each file of a label once, and (name that is left out, name that stays) of those reached again by a
    hard link or a link to a file.

    A file under two labels stays twice: which of them is right, a list cannot tell, and the doctor says so.
    """
    first: dict[tuple[object, ...], str] = {}
    kept: list[int] = []
    again: list[tuple[str, str]] = []
    for place, file in enumerate(part.files):
        key = (file.inode, part.labels[place] if part.labels is not None else None)
        stays = first.setdefault(key, file.name) if file.inode else file.name
        if stays == file.name:
            kept.append(place)
        else:
            again.append((file.name, stays))
    return (chosen(part, kept) if again else part), again


def chosen(part: Part, places: list[int]) -> Part:
    """The files at these places, with their labels and groups."""
    labels, groups = ([each[i] for i in places] if each is not None else None for each in (part.labels, part.groups))
    return Part([part.files[i] for i in places], labels, groups)


def links_note(again: list[tuple[str, str]]) -> list[str]:
    """A sentence on files that links reach again; none where there are none."""
    if not again:
        return []
    (name, stays), count = again[0], len(again)
    verb = "is there again through a link and counts" if count == 1 else "are there again through links and count"
    return [f"{counted(count, 'image')} {verb} once: {name} is {stays}" + ", ..." * (count > 1)]
