"""What the doctor says: findings, each with its files and the cure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Group(NamedTuple):
    """Files that belong together, such as the copies of one picture, and what is to be said of them."""

    files: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data.

    kind: a word for programs. severity: `error` where training would stop or its numbers would be wrong. what: one
    sentence. why: why it matters. cure: a command, or an edit. groups: the files, in the order in which to look.
    """

    kind: str
    severity: Severity
    what: str
    why: str
    cure: str
    groups: tuple[Group, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All files of all groups, each once, in order."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.files))


@dataclass(frozen=True)
class Diagnosis:
    """What was found in `data`.

    task: `classify`, `segment`, or `labels` for the labels of a run. counts: images by split. looked: what was looked
    at, in sentences. notes: what else is known of the data. page, json: the files that say the same; clean_list: the
    list that was asked for, or None.
    """

    data: str
    task: str
    counts: dict[str, int]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    looked: tuple[str, ...]
    notes: tuple[str, ...]
    page: Path
    json: Path
    clean_list: Path | None = None

    def __bool__(self) -> bool:
        """Whether something was found."""
        return bool(self.findings)


def number(count: int, noun: str, one: str, many: str) -> str:
    """`1 image is tiny`, `2,000 images are tiny`."""
    return f"{count:,} {noun} {one}" if count == 1 else f"{count:,} {noun}s {many}"


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings, otherwise as they come."""
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def singles(names: Sequence[str], notes: Sequence[str] | None = None) -> tuple[Group, ...]:
    """A group for each file."""
    return tuple(Group((name,), note) for name, note in zip(names, notes or [""] * len(names), strict=True))
