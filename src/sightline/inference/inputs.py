"""Input images of a command: folders, files, patterns, lists and standard input, one image after the other."""

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


class InputImage(NamedTuple):
    """An image file. name: what it is called in the results."""

    name: str
    path: str


def input_images(inputs: Sequence[str], skipped: Counter[str], stdin: IO[bytes] | None = None) -> Iterator[InputImage]:
    """Every image of the inputs, in order: a folder's files sorted, then its subfolders; the lines of a list as they
    are. Only the names of one folder, or the matches of one pattern, are in memory.

    An input is a folder, an image, a pattern (`photos/**/*.jpg`), a list (.txt: one path a line, relative to the
    current folder) or `-`, a list on standard input. The images of a single folder, and a single image, are named
    relative to their folder, all others by their path. Other files are counted in `skipped`; the paths of a list are
    not checked. Raises SightlineError for an input of another kind, and at the end if there were no images.
    """
    relative, count = len(inputs) == 1, 0
    for given in inputs:
        for image in images_of(given, skipped, relative, stdin):
            count += 1
            yield image
    if not count:
        why = f"there is {left_out(skipped) or 'nothing'}"
        cure = f"give a folder of {FORMATS_TEXT} files, a pattern in quotes, or a list of paths"
        raise SightlineError("no images found", where=" ".join(inputs), why=why, cure=cure)


def images_of(given: str, skipped: Counter[str], relative: bool, stdin: IO[bytes] | None) -> Iterator[InputImage]:
    """The images of one input; relative: named relative to its folder."""
    if given in STDIN:
        yield from listed_images(stdin or sys.stdin.buffer)
    elif os.path.isdir(given):
        for file in walk(given, "", skipped):
            path = os.path.join(given, file.name)
            yield InputImage(file.name if relative else path, path)
    elif given.lower().endswith(LISTS) and os.path.isfile(given):
        with open_list(given) as file:
            yield from listed_images(file)
    elif given.lower().endswith(EXTENSIONS) and os.path.exists(given):
        yield InputImage(os.path.basename(given) if relative else given, given)
    elif glob.has_magic(given) and not os.path.exists(given):
        yield from matching_images(given, skipped)
    else:
        exists = os.path.exists(given)
        why = f"it is not a folder, a list or a file of {FORMATS_TEXT}" if exists else "it does not exist"
        raise SightlineError("cannot find images", where=given, why=why, cure="check the path")


def matching_images(pattern: str, skipped: Counter[str]) -> Iterator[InputImage]:
    """The images that match a pattern, sorted; `**` matches folders of any depth."""
    for path in sorted(glob.iglob(pattern, recursive=True)):
        if path.lower().endswith(EXTENSIONS):
            yield InputImage(path, path)
        elif not os.path.isdir(path):
            skipped[os.path.splitext(path)[1].lower() or "other"] += 1


def listed_images(lines: Iterable[bytes]) -> Iterator[InputImage]:
    """The paths of a list, one a line; empty lines are skipped."""
    for line in lines:
        path = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if path.strip():
            yield InputImage(path, path)


def open_list(path: str) -> IO[bytes]:
    """Open a list of paths."""
    try:
        return open(path, "rb")
    except OSError as error:
        why, cure = error.strerror or str(error), "check the path and its permissions"
        raise SightlineError("cannot read a list", where=path, why=why, cure=cure, status=ENVIRONMENT) from error
