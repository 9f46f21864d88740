"""Which pictures a command is given: folders, single files, patterns, lists, standard input; one after the other."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from ..data.sources.scan import EXTENSIONS, FORMATS_TEXT, left_out, walk
from ..errors import ENVIRONMENT, SightlineError

LISTS = (".txt", ".lst", ".list")
STDIN = ("-", "/dev/stdin")


class Picture(NamedTuple):
    """What a picture is called in the results, and where it lies."""

    name: str
    path: str


def pictures_in(places: Sequence[str], tally: Counter[str], stdin: IO[bytes] | None = None) -> Iterator[Picture]:
    """Every picture of the places, in order: a folder's files sorted, then its subfolders; the lines of a list as they
    come. Nothing but the names of one folder, or the matches of one pattern, is held in memory.

    A place is a folder, an image, a pattern (`photos/**/*.jpg`), a list (.txt: one path a line, from the current
    folder) or `-`, a list on standard input. What one folder or one image gives is named from there, everything else
    by its path. Files that are no images are counted in `tally`; what a list names is taken as it is. Raises
    SightlineError for a place that is none of these, at the end for places without any picture.
    """
    short, count = len(places) == 1, 0
    for place in places:
        for picture in pictures_of(place, tally, short, stdin):
            count += 1
            yield picture
    if not count:
        why = f"there is {left_out(tally) or 'nothing'}"
        cure = f"give a folder of {FORMATS_TEXT} files, a pattern in quotes, or a list of paths"
        raise SightlineError("no images found", where=" ".join(places), why=why, cure=cure)


def pictures_of(place: str, tally: Counter[str], short: bool, stdin: IO[bytes] | None) -> Iterator[Picture]:
    """The pictures of one place; short: named from it."""
    if place in STDIN:
        yield from listed(stdin or sys.stdin.buffer)
    elif os.path.isdir(place):
        for file in walk(place, "", tally):
            path = os.path.join(place, file.name)
            yield Picture(file.name if short else path, path)
    elif place.lower().endswith(LISTS) and os.path.isfile(place):
        with opened(place) as file:
            yield from listed(file)
    elif place.lower().endswith(EXTENSIONS) and os.path.exists(place):
        yield Picture(os.path.basename(place) if short else place, place)
    elif glob.has_magic(place) and not os.path.exists(place):
        yield from matches(place, tally)
    else:
        here = os.path.exists(place)
        why = f"it is not a folder, a list or a file of {FORMATS_TEXT}" if here else "there is nothing there"
        raise SightlineError("cannot find images", where=place, why=why, cure="check the path")


def matches(pattern: str, tally: Counter[str]) -> Iterator[Picture]:
    """The images that a pattern matches, sorted; `**` goes into folders."""
    for path in sorted(glob.iglob(pattern, recursive=True)):
        if path.lower().endswith(EXTENSIONS):
            yield Picture(path, path)
        elif not os.path.isdir(path):
            tally[os.path.splitext(path)[1].lower() or "other"] += 1


def listed(lines: Iterable[bytes]) -> Iterator[Picture]:
    """The paths of a list, one a line; empty lines are passed over."""
    for line in lines:
        path = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if path.strip():
            yield Picture(path, path)


def opened(place: str) -> IO[bytes]:
    """A list as an open file."""
    try:
        return open(place, "rb")
    except OSError as error:
        why, cure = error.strerror or str(error), "check the path and its permissions"
        raise SightlineError("cannot read a list", where=place, why=why, cure=cure, status=ENVIRONMENT) from error
