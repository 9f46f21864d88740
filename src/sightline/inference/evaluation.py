"""Helpers of `sightline evaluate`: choose the split, detect changed images, count evaluations on test data; images that
the run was trained on."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.paths import absolute
from ..config.schema import Data
from ..data.channels import Channels
from ..data.copies import same_files
from ..data.decode.rasters import read_for
from ..data.sources.splits import ALL, OUTER
from ..data.test_ledger import TestImages, record, register
from ..data.types import Decoded, Items, Source
from ..errors import SightlineError, some_of
from ..runs import run_folder
from ..runs.log import RunLog
from .reading import channels_text


def log_test_evaluation(
    folder: Path,
    moment: tuple[int, int],
    split: str,
    source: Source,
    numbers: dict[str, Any],
    say: Callable[[str], None],
    decoded: Decoded,
) -> dict[str, int]:
    """Log an evaluation on images that chose nothing: of a test split, the split OUTER, or data other than the run's.

    Except for OUTER, it is counted as a look at this test set, and the count is printed. moment: step and epoch of the
    weights. decoded: the images. Returns {"look": number of the look, "look_runs": number of runs with looks},
    empty for OUTER or if the look cannot be counted.
    """
    looks = {} if split == OUTER else counted_look(folder, source, split, say)
    step, epoch = moment
    facts = {"split": split, "images": len(decoded.names), "path": source.path, "digest": decoded.digest, **looks}
    RunLog(folder, quiet=True).event("test", step=step, epoch=epoch, **facts, **numbers)
    return looks


def counted_look(folder: Path, source: Source, split: str, say: Callable[[str], None]) -> dict[str, int]:
    """Record a look of a run at a test set; returns the numbers of looks as `log_test_evaluation` does."""
    seen = TestImages()
    for name in source.splits[split].names:
        seen.add(os.path.join(source.path, name))
    try:
        look = record(seen.keys or [register(source, split)], "evaluate", folder, [source.path])
    except SightlineError as error:
        say(f"warning: this look at the test set is not counted: {error.what}: {error.why}")
        return {}
    assert look is not None
    say(f"this is {look}; if you choose a model by these metrics, they are no unbiased test results")
    return {"look": look.number, "look_runs": look.runs}


def require_channels(found: Channels, wanted: Channels, where: str) -> None:
    """Raise SightlineError if images do not have the channels that a network needs. where: path of the images."""
    if (found.names, found.dtype) != (wanted.names, wanted.dtype):
        why = f"they have {channels_text(found)}, and the network needs {channels_text(wanted)}"
        cure = "use images like those of the training: --data PATH"
        raise SightlineError("the images have other channels", where=where, why=why, cure=cure)


def as_trained(source: Source, channels: Channels, max_pixels: int, say: Callable[[str], None]) -> Source:
    """The source, with images of more than 8 bits converted to 8-bit RGB as those of the training were, and not by
    their own largest value. channels: of the network. Raises SightlineError if it needs other channels."""
    require_channels(source.channels, channels, source.path)
    if not source.channels.deep or source.channels.deep == channels.deep:
        return source
    say(f"images with more than 8 bits: {channels.deep:,.0f} becomes 255, as in training")

    def reader(items: Items) -> Items:
        paths = [os.path.join(source.path, name) for name in items.names]
        return replace(items, read=lambda index, side=0: read_for(paths[index], channels, max_pixels, side))

    splits = {split: reader(items) for split, items in source.splits.items()}
    return replace(source, splits=splits, channels=channels)


def warn_of_bits(found: Channels, trained: Channels, say: Callable[[str], None]) -> None:
    """Print a warning if images have more bits than the training images, or at least 4 fewer."""
    bits, expected = (int(channels.top).bit_length() for channels in (found, trained))
    if found.dtype == "uint16" and not expected - 4 < bits <= expected:
        scale = "unless the scenes are only brighter or darker, the metrics are wrong: scale the values first"
        say(f"warning: these images have {bits} bits, and the training images had {expected}; {scale}")


def chosen_split(split: str | None, source: Source) -> str:
    """The split to evaluate: `split` if given, else `val` or the only one. Raises SightlineError if it is missing."""
    wanted = split or ("val" if "val" in source.splits or len(source.splits) > 1 else next(iter(source.splits)))
    if wanted not in source.splits:
        cure = "use " + " or ".join(f"--split {name}" for name in source.splits)
        raise SightlineError(f"the data have no split {wanted!r}", where=source.path, cure=cure)
    return wanted


def known_digest(folder: Path, split: str) -> str | None:
    """The digest of a split's images in provenance.json, which training wrote; None without one."""
    data = run_folder.provenance(folder).get("data")
    digests = data.get("digest") if isinstance(data, dict) else None
    return digests.get(split) if isinstance(digests, dict) else None


def training_names(folder: Path) -> set[str]:
    """The names of a run's training images, from its splits.csv; empty without that file."""
    try:
        with open(folder / "splits.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            return {row["filename"] for row in csv.DictReader(file) if row.get("split") == "train"}
    except OSError:
        return set()


class SeenImages:
    """Counts predicted images on which the run was trained, by their paths."""

    def __init__(self, folder: Path, data: Data):
        self.folder, self.root = folder, folder_of(absolute(data.path))
        self.names: set[str] | None = None
        self.count = 0

    def add(self, paths: Iterable[str]) -> None:
        """Count these paths of images. The names of the training images are read when they are first needed."""
        for path in map(os.path.abspath, paths):
            if path.startswith(os.path.join(self.root, "")):
                self.names = training_names(self.folder) if self.names is None else self.names
                self.count += os.path.relpath(path, self.root).replace(os.sep, "/") in self.names

    @property
    def note(self) -> str:
        """A sentence on the number of these images; "" without any."""
        if not self.count:
            return ""
        verb = "is a training image" if self.count == 1 else "are training images"
        return f"{self.count:,} of them {verb} of this run, which it predicts better than new ones"


def known_images(folder: Path, source: Source, trained: set[str]) -> list[str]:
    """The files of evaluated images that are identical to files on which the run was trained, under any name; none if
    the run's data are not at their place, or are no image files. trained: the names of its training images."""
    data = run_folder.provenance(folder).get("data")
    own = folder_of(str(data.get("path", ""))) if isinstance(data, dict) else ""
    evaluated = [name for split, items in source.splits.items() if split != "train" for name in items.names]
    paths = [os.path.join(folder_of(source.path), name) for name in evaluated]
    return same_files(paths, [os.path.join(own, name) for name in trained]) if own else []


def folder_of(path: str) -> str:
    """The folder in which the images of a data set are: that of a table, or the path itself."""
    return path if os.path.isdir(path) else os.path.dirname(path)


def open_other(
    folder: Path, open_held: Callable[[bool], Source], decode: Callable[[Source], Decoded], say: Callable[[str], None]
) -> tuple[Source, bool]:
    """Open data other than the run's own: (source, whether they are its own data in another folder).

    Own data that the run divided itself are divided in the same way, so that training images are not evaluated.
    open_held: function that opens the data, whether or not validation images are held out. decode: function that
    decodes `val`.
    """
    source = open_held(False)
    for note in source.notes:
        say(note)
    if own := own_elsewhere(folder, source, open_held, decode, say):
        return own, True
    names, trained = source.splits[ALL].names if ALL in source.splits else (), training_names(folder)
    shared = len(trained & {*names})
    if copies := known_images(folder, source, trained):
        verb = "is a copy of a training image" if len(copies) == 1 else "are copies of training images"
        say(f"warning: {len(copies):,} of these images {verb} of this run: the metrics are too high; {some_of(copies)}")
    elif 2 * shared > len(names):
        say(f"warning: {shared:,} of these images have names of training images; if they are, the metrics are too high")
    return source, False


def own_elsewhere(
    folder: Path,
    source: Source,
    open_held: Callable[[bool], Source],
    decode: Callable[[Source], Decoded],
    say: Callable[[str], None],
) -> Source | None:
    """The run's own data, if `source` are these in another folder, divided as by the run; otherwise None."""
    known = known_digest(folder, "val")
    if known is None:
        return None
    if "val" in source.splits:
        with contextlib.suppress(SightlineError):  # an image of `val` that cannot be read is reported if it is used
            if decode(source).digest == known:
                say("these are the data of the run in another folder")
                return source
    if ALL not in source.splits:
        return None
    try:
        held = open_held(True)
        if decode(held).digest != known:
            return None
    except SightlineError:  # such as data that cannot be divided
        return None
    say("these are the data of the run in another folder: only its validation images are evaluated")
    return held


def warn_if_changed(folder: Path, split: str, digest: str, say: Callable[[str], None]) -> None:
    """Print a warning if a split's images have another digest than provenance.json, which training wrote."""
    known = known_digest(folder, split)
    if known is not None and known != digest:
        say(f"warning: the images of {split} have changed since the run began: its metrics cannot be reproduced")
