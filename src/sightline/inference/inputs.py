"""What `sightline predict` is given: options, and images from folders, files, patterns, lists or standard input."""

import codecs
import glob
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from ..data.channels import RGB, Channels
from ..data.decode.formats import conversion_hint
from ..data.decode.kinds import Raster
from ..data.decode.rasters import read_for
from ..data.sources.scan import EXTENSIONS, FORMATS_TEXT, left_out, walk
from ..errors import ENVIRONMENT, SightlineError, nearest_path

LISTS = (".txt", ".lst", ".list")
STDIN = ("-", "/dev/stdin")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction. overlay: for masks and class activation maps. tile: only for masks. features, precision:
    only for tables. format: of a file for annotation programs, see `prelabels`; "" for tables and masks."""

    overwrite: bool = False
    features: bool = False
    overlay: bool = False
    tile: int = 1024
    precision: str = "fp32"
    format: str = ""

    def require_float32(self) -> None:
        """Raise SightlineError if another precision was chosen, for segmenters."""
        if self.precision != "fp32":
            what, where = "segmenters are computed in float32", f"--precision {self.precision}"
            raise SightlineError(what, where=where, cure="omit --precision, which is for tables of predictions")


class InputImage(NamedTuple):
    """An image file. path: where to read it. name: its name in the results."""

    name: str
    path: str

    def read(self, max_pixels: int, side: int, channels: Channels = RGB) -> Image.Image | Raster:
        """Decode the file; see `data.decode.rasters.read_for`."""
        return read_for(self.path, channels, max_pixels, side)


def input_images(inputs: Sequence[str], skipped: Counter[str], stdin: IO[bytes] | None = None) -> Iterator[InputImage]:
    """Yield the images of all inputs.

    An input is a folder (its files in sorted order, then its subfolders), an image, a pattern (`photos/**/*.jpg`), a
    list of paths (.txt, one per line, relative to the current folder), or `-`, such a list on standard input.

    If the only input is a folder or an image, the names of the images are relative to that folder; otherwise names are
    paths. Files without an image extension are counted in `skipped`; the paths in a list are not checked. Memory: the
    names in one folder, or the matches of one pattern. Raises SightlineError for any other input, and at the end if
    there were no images.
    """
    relative, count = len(inputs) == 1, 0
    for given in inputs:
        for image in images_of(given, skipped, relative, stdin):
            count += 1
            yield image
    if not count:
        why = f"found: {left_out(skipped) or 'no files'}"
        cure = (
            f"pass a folder of {FORMATS_TEXT} files, a pattern in quotes ('photos/*.jpg'), or a text file with one "
            f"path per line{conversion_hint(skipped)}"
        )
        raise SightlineError("no images found", where=" ".join(inputs), why=why, cure=cure)


def maps_folder(table: Path) -> Path:
    """The folder of the class activation maps that belong to a table: `guesses.maps` beside `guesses.csv`."""
    return table.with_suffix(".maps")


def without_maps(images: Iterable[InputImage], table: Path, skipped: Counter[str]) -> Iterator[InputImage]:
    """Yield the images except the class activation maps of a table, which may be in the folder of its images; these
    are counted in `skipped`."""
    folder = maps_folder(table)
    for image in images:
        # Links are resolved only for paths with this name, because resolving takes several system calls.
        if folder.name in image.path and Path(image.path).resolve().is_relative_to(folder.resolve()):
            skipped["class activation map"] += 1
        else:
            yield image


def absolute_inputs(inputs: Sequence[str]) -> list[str]:
    """The inputs as absolute paths and patterns, to compare them with those of an interrupted prediction. The paths in
    a list are relative to the current folder, so it is added to a list."""
    lists = (given for given in inputs if given in STDIN or given.lower().endswith(LISTS))
    return [*map(os.path.abspath, inputs), *(os.getcwd() for _ in lists)]


def images_of(given: str, skipped: Counter[str], relative: bool, stdin: IO[bytes] | None) -> Iterator[InputImage]:
    """Yield the images of one input: a folder, an image, a text file with paths, or `-` for paths from `stdin`.

    skipped: counts the files that are not images, by extension. relative: whether names are relative to the folder.
    """
    if given not in STDIN and not os.path.exists(given):
        given = os.path.expanduser(given)
    if given in STDIN:
        yield from listed_images(stdin or sys.stdin.buffer, given)
    elif os.path.isdir(given):
        for file in walk(given, "", skipped):
            path = os.path.join(given, file.name)
            yield InputImage(file.name if relative else path, path)
    elif given.lower().endswith(LISTS) and os.path.isfile(given):
        with open_list(given) as file:
            yield from listed_images(file, given)
    elif given.lower().endswith(EXTENSIONS) and os.path.exists(given):
        yield InputImage(os.path.basename(given) if relative else given, given)
    elif glob.has_magic(given) and not os.path.exists(given):
        yield from matching_images(given, skipped)
    else:
        exists = os.path.exists(given)
        why = f"it is not a folder, a text file with paths, or a {FORMATS_TEXT} image"
        cure = "give the path of images" if exists else nearest_path(given)
        what = "this path has no images" if exists else "this path does not exist"
        raise SightlineError(what, where=given, why=why if exists else "", cure=cure)


def matching_images(pattern: str, skipped: Counter[str]) -> Iterator[InputImage]:
    """Yield the images that match a pattern, sorted; `**` matches folders of any depth."""
    for path in sorted(glob.iglob(pattern, recursive=True)):
        if path.lower().endswith(EXTENSIONS):
            yield InputImage(path, path)
        elif not os.path.isdir(path):
            skipped[os.path.splitext(path)[1].lower() or "other"] += 1


def listed_images(lines: Iterable[bytes], where: str) -> Iterator[InputImage]:
    """Yield the paths of a list, one per line; empty lines are skipped. Raises SightlineError for null bytes, which are
    in no path. where: the path of the list, for this error."""
    for number, line in enumerate(lines):
        if b"\0" in line:
            wide = line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            command = "iconv -f UTF-16 -t UTF-8" if wide else "tr '\\0' '\\n'"
            given = "LIST" if where in STDIN else shlex.quote(where)
            why = "it has null bytes, as in UTF-16" if wide else "its paths are separated by null bytes (find -print0)"
            cure = f"write one path per line in UTF-8: {command} < {given} > lines.txt"
            raise SightlineError("this list of images cannot be read", where=where, why=why, cure=cure)
        line = line if number else line.removeprefix(codecs.BOM_UTF8)
        path = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if path.strip():
            yield InputImage(path, path)


def open_list(path: str) -> IO[bytes]:
    """Open a list of paths; raise SightlineError if it cannot be read."""
    try:
        return open(path, "rb")
    except OSError as error:
        why, cure = error.strerror or str(error), "check that the file exists and that you may read it: chmod u+r FILE"
        raise SightlineError(
            "cannot read the list of images", where=path, why=why, cure=cure, status=ENVIRONMENT
        ) from error
