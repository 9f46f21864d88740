"""One picture after the other: what is there already, what is to do, what could not be done, and the record of it."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..config.schema import Config
from ..data.decode.images import open_image, planes
from ..data.sources.scan import left_out
from ..engine.device import device_name, use_threads
from ..engine.memory import explained_memory
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError, counted
from ..inference.inputs import pictures_in
from ..inference.masks import report_bad
from ..runs.atomic import atomic_write, sweep_temporaries, write_json
from ..runs.lock import lock_run
from ..runs.provenance import command_line, installed_versions
from .automatic import SAME_BOX, Segment, Settings, find_segments
from .checkpoint import Checkpoint
from .clean_up import CleanUp
from .model import Sam, chosen_device, loaded
from .outputs import FORMAT, PAGE, RECORD, Done, Task, done_before, read_record, read_segments, tasks_of, write_picture
from .telling import Progress

Say = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What one call is to do. inputs: the paths of all that was given, which nothing may overwrite."""

    tasks: list[Task]
    inputs: list[str]
    out: Path
    checkpoint: Checkpoint
    settings: Settings
    clean_up: CleanUp | None
    say: Say

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """The weights and the settings that decide which masks are found."""
        return {"weights": self.checkpoint.fingerprint(), **self.settings.decisive()}

    @property
    def most_pixels(self) -> int:
        """The most pixels that a picture may have: data.max_pixels of the run, or as it is by default."""
        return (self.clean_up.config if self.clean_up else Config()).data.max_pixels


def planned(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], out: Path, say: Say
) -> tuple[list[Task], list[str]]:
    """What to do, and the paths of all pictures that were given."""
    places = [os.fspath(images)] if isinstance(images, str | os.PathLike) else [os.fspath(place) for place in images]
    tally: Counter[str] = Counter()
    pictures = list(pictures_in(places, tally))
    if left := left_out(tally):
        say(f"left out: {left}")
    tasks = tasks_of(pictures, places, out)
    if outputs := len(pictures) - len(tasks):
        say(f"{counted(outputs, 'file')} left out: masks, overlays and segments of the pictures here")
    return tasks, [picture.path for picture in pictures]


@contextlib.contextmanager
def explained(settings: Settings) -> Generator[None]:
    """Too little memory, in words that lead to a cure."""
    fewer = max(1, settings.points_per_batch // 4)
    with explained_memory(Config(), cure=f"--points-per-batch {fewer}, or a smaller --model (vit_b)"):
        yield


@contextlib.contextmanager
def kept(out: Path) -> Generator[str | None]:
    """Nobody else writes into `out`; Ctrl-C leaves what is done, and says so."""
    try:
        with lock_run(out) as note:
            yield note
    except KeyboardInterrupt:
        why, cure = "the masks of each picture that was finished are there", "the same command goes on with them"
        raise SightlineError("interrupted", where=str(out), why=why, cure=cure, status=INTERRUPTED) from None


def do_all(work: Work, overwrite: bool) -> Path:
    """Do all pictures, then write the record and the page; returns the folder."""
    from .page import render

    out, say, clean_up = work.out, work.say, work.clean_up
    threads, cleaned = use_threads(0), read_record(out)["cleaned"]
    sweep_temporaries(out)
    before = done_before(work.tasks, work.inputs, out, work.made_by, clean_up is not None, overwrite)
    if before:
        say(f"{len(before):,} of {counted(len(work.tasks), 'picture')} done before: their masks are taken as they are")
    if clean_up:
        if cleaned["weights"] not in (None, clean_up.weights):
            say("the cleaned masks of another run are replaced")
        names = {*cleaned["names"], *(task.name for task in work.tasks)}
        cleaned = {"weights": clean_up.weights, "names": sorted(names)}
    record: dict[str, Any] = described(work, threads) | {"cleaned": cleaned}
    write_json(out / RECORD, record)
    done, bad = each(work, before)
    report_bad(bad, out, say)
    if not done:
        why, cure = f"the first: {bad[0][0]}: {bad[0][1]}", f"mend the pictures; {out / 'errors.csv'} has them all"
        raise SightlineError("no picture could be read", where=str(out), why=why, cure=cure)
    seconds = sum(one.seconds for one in done.values()) / len(done)
    record |= {
        "complete": True,
        "seconds_a_picture": round(seconds, 3),
        "pictures": [asdict(one) for one in done.values()],
        "errors": [{"filename": name, "error": error} for name, error in bad],
        "clean_up": clean_up and clean_up.facts(),
    }
    write_json(out / RECORD, record)
    atomic_write(out / PAGE, render(out.resolve().name, work.tasks, done, record, clean_up, work.most_pixels))
    masks = sum(one.masks for one in done.values())
    say(f"{counted(masks, 'mask')} in {counted(len(done), 'picture')}, {seconds:,.1f} s a picture; {out / PAGE}")
    if not masks:
        say("no mask was good enough: try a lower --quality and --stability")
    if record["clean_up"] and "sentence" in record["clean_up"]:
        say(record["clean_up"]["sentence"])
    return out


def described(work: Work, threads: int) -> dict[str, Any]:
    """What segments.json says before anything is found."""
    checkpoint = work.checkpoint
    known = {"name": checkpoint.name, "folder": str(checkpoint.folder), "kind": checkpoint.kind}
    more = {package: version(package) for package in ("transformers", "pycocotools")}
    return {
        "segments": FORMAT,
        "complete": False,
        "command": command_line(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "checkpoint": known | {"sha256": work.made_by["weights"]},
        "settings": asdict(work.settings) | {"nms": SAME_BOX},
        "device": device_name(chosen_device("auto")),
        "threads": threads,
        "versions": installed_versions() | more,
        "pictures": [{"name": task.name} for task in work.tasks],
        "clean_up": work.clean_up and work.clean_up.facts(),
    }


def each(work: Work, before: dict[str, Done]) -> tuple[dict[str, Done], list[tuple[str, str]]]:
    """The pictures that have masks, by name and in order, and (name, why) of what could not be read."""
    new = len(work.tasks) - len(before)
    sam = loaded(work.checkpoint) if new else None
    if sam:
        work.say(f"looking at {counted(new, 'picture')} with {sam.name} on {device_name(sam.device)}")
    progress = Progress(work.say, new or len(work.tasks))
    done: dict[str, Done] = {}
    bad: list[tuple[str, str]] = []
    for task in work.tasks:
        if task.name in before and not work.clean_up:
            done[task.name] = before[task.name]
            continue
        progress.begin(task.name)
        try:
            image = planes(open_image(task.path, work.most_pixels))
            if sam is None or task.name in before:
                done[task.name], segments = before[task.name], read_segments(task.file("_segments.json"))
            else:
                done[task.name], segments = look(work, sam, task, image, progress)
            if work.clean_up:
                work.clean_up.picture(task, image, segments)
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            bad.append((task.name, " ".join((error.why or error.what).split())))
        if task.name not in before or not new:
            progress.end()
    return done, bad


def look(work: Work, sam: Sam, task: Task, image: np.ndarray, progress: Progress) -> tuple[Done, list[Segment]]:
    """Find the masks of an image uint8 [3, H, W] and write its files."""
    start = time.monotonic()
    embedded = sam.embedded(image)
    progress.points(0, 1)
    segments = find_segments(sam, embedded, work.settings, progress.points)
    return write_picture(task, image, segments, work.made_by, time.monotonic() - start), segments
